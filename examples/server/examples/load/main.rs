//! Many clients on one server: each writes its cursor thirty times a second and follows everything.
//!
//! ```text
//! cargo run --release -p server -- --listen 127.0.0.1:8080
//! cargo run --release -p server --example load -- --address 127.0.0.1:8080
//! ```
//!
//! Prints the latency of updates, and the server's memory. Ends with 2 if it is called wrongly, and with 1 if at the end a
//! replica is not equal to the server's content, or if the keys of the clients are not removed when they are gone.

mod client;
mod replica;

use client::{Client, Shared};
use lexopt::prelude::*;
use replica::Delays;
use serde_json::Value;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const USAGE: &str = "\
Many clients on one server: each writes its cursor and follows everything.

usage: load [--address ADDRESS:PORT] [--clients NUMBER] [--rate NUMBER] [--seconds NUMBER]

  --address ADDRESS:PORT  where the server listens (127.0.0.1:8080)
  --clients NUMBER        how many clients there are (200)
  --rate NUMBER           how often each of them writes in a second (30)
  --seconds NUMBER        for how long they write (60)
  --help                  this text
";
/// After this time a message is considered lost.
const PATIENCE: Duration = Duration::from_mins(1);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

struct Options {
    address: String,
    clients: usize,
    rate: u32,
    seconds: u32,
}

impl Options {
    /// `None` if only help is wanted.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self { address: "127.0.0.1:8080".to_owned(), clients: 200, rate: 30, seconds: 60 };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("address") => options.address = parser.value()?.string()?,
                Long("clients") => options.clients = parser.value()?.parse()?,
                Long("rate") => options.rate = parser.value()?.parse::<std::num::NonZero<u32>>()?.get(),
                Long("seconds") => options.seconds = parser.value()?.parse()?,
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse() {
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
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Outcome<()> {
    let before = status(&options.address).await?;
    let shared = Arc::new(Shared::new());
    let (goal, reached) = watch::channel(None);
    let mut clients = Vec::new();
    for number in 0..options.clients {
        clients.push(Client::join(&options.address, number, Arc::clone(&shared)).await?);
    }
    println!("{} clients are there; the server has {}", options.clients, memory(&status(&options.address).await?));

    let period = Duration::from_secs(1) / options.rate;
    let beginning = Instant::now() + Duration::from_millis(100);
    let end = beginning + Duration::from_secs(options.seconds.into());
    let (writers, readers): (Vec<_>, Vec<_>) = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let phase = period * u32::try_from(number).unwrap_or(0) / u32::try_from(options.clients).unwrap_or(1);
            client.run(beginning + phase, period, end, reached.clone())
        })
        .unzip();
    for part in 1..=4 {
        tokio::time::sleep_until(beginning + (end - beginning) * part / 4).await;
        println!("after {} s the server has {}", options.seconds * part / 4, memory(&status(&options.address).await?));
    }

    let (mut sent, mut bytes, mut last, mut sockets) = (0, 0, Vec::new(), Vec::new());
    for writer in writers {
        let written = writer.await??;
        sent += written.updates;
        bytes += written.bytes;
        last.push((shared.key(&written.cursor), written.updates));
        sockets.push(written.sink);
    }
    let checker = timeout(PATIENCE, checker(&options.address, &shared, &last)).await??;
    goal.send(Some(checker.replica.revision))?;
    let (mut delays, mut equal, mut sockets_read) = (Delays::new()?, 0, Vec::new());
    for reader in readers {
        let seen = timeout(PATIENCE, reader).await???;
        delays.add(&seen.delays)?;
        equal += usize::from(seen.replica.is_equal(&checker.replica));
        sockets_read.push(seen.stream);
    }
    let rate = sent / u64::from(options.seconds.max(1));
    println!("{sent} updates of {} bytes were sent, {rate} a second", bytes / sent.max(1));
    println!("{delays}");
    println!("the server says: {}", status(&options.address).await?);
    let (keys, revision) = (checker.replica.len(), checker.replica.revision);
    println!("{equal} of {} replicas are what the server has: {keys} keys at revision {revision}", options.clients);

    checker.leave().await?;
    drop((sockets, sockets_read)); // without a word, as if they had been killed
    let gone = Instant::now();
    timeout(PATIENCE, async {
        while status(&options.address).await?["keys"] != before["keys"] {
            sleep(Duration::from_millis(50)).await;
        }
        Outcome::Ok(())
    })
    .await
    .map_err(|_| "what the clients had was not cleaned up")??;
    println!("what they had was gone {:.1} s after they were", gone.elapsed().as_secs_f64());
    if equal == options.clients { Ok(()) } else { Err("not all replicas are equal".into()) }
}

/// A client that comes when everything that was sent is there: of each cursor, the last.
async fn checker(address: &str, shared: &Arc<Shared>, last: &[(usize, u64)]) -> Outcome<Client> {
    loop {
        let checker = Client::join(address, 0, Arc::clone(shared)).await?;
        if last.iter().all(|(cursor, count)| checker.replica.count(*cursor) == Some(*count)) {
            return Ok(checker);
        }
        checker.leave().await?;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn status(address: &str) -> Outcome<Value> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| format!("no server at {address}: {error}"))?;
    stream
        .write_all(format!("GET /status HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    Ok(serde_json::from_str(body)?)
}

fn memory(status: &Value) -> String {
    status["memory_kib"].as_u64().map_or("memory that it does not tell".to_owned(), |kib| format!("{} MiB", kib / 1024))
}
