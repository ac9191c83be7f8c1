//! A shared board in the browser: the users, the cards and the owners of their locks, live. The README describes the
//! messages.

mod client;
mod connection;
mod feed;
mod options;
mod protocol;
mod room;
mod rules;
mod store;
mod text;
mod work;

use axum::Router;
use axum::extract::{State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use options::{Options, USAGE};
use room::Room;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpSocket};

/// How much the system keeps for a client that reads slowly. By default it would be megabytes, seconds out of date when they
/// are read.
const UNSENT: u32 = 256 << 10;

/// How many bytes of a client are read at a time. Messages are short, and this many bytes are cleared before each read.
const READ: usize = 4 << 10;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprint!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until Ctrl-C. It is an error if the node of the board stops before.
async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let listener = listen(options.listen).map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let (room, mut driver) = Room::open(options).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Small messages go out at once.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let routes = Router::new()
        .route("/", get(async || Html(include_str!("../page/index.html"))))
        .route("/page.js", get(async || script(include_str!("../page/page.js"))))
        .route("/board.js", get(async || script(include_str!("../page/board.js"))))
        .route("/cards.js", get(async || script(include_str!("../page/cards.js"))))
        .route("/line.js", get(async || script(include_str!("../page/line.js"))))
        .route("/locks.js", get(async || script(include_str!("../page/locks.js"))))
        .route("/text.js", get(async || script(include_str!("../page/text.js"))))
        .route("/status", get(async |State(room): State<Arc<Room>>| Json(room.status())))
        .route("/ws", get(connect))
        .with_state(Arc::clone(&room));
    let end = tokio::select! {
        served = axum::serve(listener, routes) => served.map_err(Into::into),
        stopped = tokio::signal::ctrl_c() => stopped.map_err(Into::into),
        stopped = &mut driver => Err(match stopped {
            Ok(why) => format!("the board's node stopped: {why}").into(),
            Err(panicked) => panicked.into(),
        }),
    };
    room.close(&mut driver).await;
    end
}

/// A part of the page. The browser requests it each time, so that all parts are of one version.
fn script(text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], text)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows it would allow to bind a port that is in use.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(UNSENT)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn connect(State(room): State<Arc<Room>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if !is_same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "a page of another site").into_response();
    }
    let Ok(place) = Arc::clone(&room.places).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "everybody else is here already").into_response();
    };
    upgrade
        .read_buffer_size(READ)
        .max_message_size(connection::TOO_LONG)
        .max_frame_size(connection::TOO_LONG)
        .on_upgrade(async move |socket| {
            client::serve(socket, &room).await;
            drop(place);
        })
}

/// A browser sends the site of the page that connects; a page of another site must not act for the user. Other programs send
/// none.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1)) == host && host.is_some()
}
