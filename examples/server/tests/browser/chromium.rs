//! Just enough of the `DevTools` protocol to open a page in a headless Chromium and to use mouse, keyboard and eyes.

use crate::common::soon;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// One page in a browser process of its own, which is killed when this is dropped.
pub(crate) struct Page {
    process: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    calls: u64,
    /// The mouse's button.
    is_pressed: bool,
}

impl Page {
    /// Opens `url` in a new browser whose profile is in `folder`.
    pub(crate) async fn open(folder: &Path, url: &str) -> Self {
        let program = std::env::var_os("CHROMIUM").unwrap_or_else(|| "chromium".into());
        let mut process = Command::new(&program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            // There is a mouse, which can hover and is precise.
            .arg("--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4")
            .arg(format!("--user-data-dir={}", folder.display()))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let endpoint = soon(async {
            loop {
                let line = lines.next_line().await.unwrap().expect("Chromium ended");
                if let Some(endpoint) = line.strip_prefix("DevTools listening on ") {
                    break endpoint.to_owned();
                }
            }
        })
        .await;
        // Whoever stops reading what it says would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = soon(connect_async(endpoint)).await.unwrap();
        let mut page = Self { process, socket, session: None, calls: 0, is_pressed: false };
        let target = page.call("Target.createTarget", json!({ "url": url })).await["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        page.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        page.call("Runtime.enable", json!({})).await;
        page
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            call["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::Text(call.to_string().into())).await.unwrap();
        soon(async {
            loop {
                let Message::Text(text) = self.socket.next().await.expect("Chromium ended").unwrap() else { continue };
                let answer: Value = serde_json::from_str(&text).unwrap();
                assert_ne!(answer["method"], "Runtime.exceptionThrown", "{answer}");
                if answer["id"] == self.calls {
                    assert!(answer.get("error").is_none(), "{call}: {answer}");
                    return answer["result"].clone();
                }
            }
        })
        .await
    }

    /// What a script's expression is, as JSON.
    pub(crate) async fn eval(&mut self, script: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": script, "returnByValue": true })).await;
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until a script's expression is true.
    pub(crate) async fn until(&mut self, script: &str) {
        let mut times = tokio::time::interval(std::time::Duration::from_millis(20));
        for _ in 0..1500 {
            times.tick().await;
            if self.eval(script).await == true {
                return;
            }
        }
        let text = self.eval("document.body.innerText").await;
        panic!("never was true: {script}\nthe page shows: {text}");
    }

    /// What a script's promise resolves to, as JSON.
    pub(crate) async fn resolve(&mut self, script: &str) -> Value {
        let params = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// The middle of the element, in the page's pixels.
    pub(crate) async fn middle(&mut self, element: &str) -> (f64, f64) {
        let script = format!(
            "(({{ x, y, width, height }}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())"
        );
        let middle = self.eval(&script).await;
        (middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap())
    }

    /// `mousePressed`, `mouseMoved` or `mouseReleased`.
    pub(crate) async fn mouse(&mut self, event: &str, (x, y): (f64, f64)) {
        self.is_pressed |= event == "mousePressed";
        let button = if self.is_pressed { "left" } else { "none" };
        self.is_pressed &= event != "mouseReleased";
        let buttons = u8::from(self.is_pressed);
        let event = json!({ "type": event, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", event).await;
    }

    /// A finger that goes down at the first point, and up at the last.
    pub(crate) async fn drag_by_finger(&mut self, points: &[(f64, f64)]) {
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": true })).await;
        for (index, (x, y)) in points.iter().enumerate() {
            let event = if index == 0 { "touchStart" } else { "touchMove" };
            let touch = json!({ "type": event, "touchPoints": [{ "x": x, "y": y }] });
            self.call("Input.dispatchTouchEvent", touch).await;
            if index == 0 {
                self.until("state.holding != null").await;
            }
        }
        self.call("Input.dispatchTouchEvent", json!({ "type": "touchEnd", "touchPoints": [] })).await;
    }

    pub(crate) async fn click(&mut self, element: &str) {
        let at = self.middle(element).await;
        for event in ["mouseMoved", "mousePressed", "mouseReleased"] {
            self.mouse(event, at).await;
        }
    }

    /// A short touch.
    pub(crate) async fn tap(&mut self, element: &str) {
        let (x, y) = self.middle(element).await;
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": true })).await;
        let touch = json!({ "type": "touchStart", "touchPoints": [{ "x": x, "y": y }] });
        self.call("Input.dispatchTouchEvent", touch).await;
        self.call("Input.dispatchTouchEvent", json!({ "type": "touchEnd", "touchPoints": [] })).await;
    }

    /// Replaces the text of the element that has the focus.
    pub(crate) async fn write(&mut self, text: &str) {
        self.eval("document.activeElement.select()").await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    pub(crate) async fn press(&mut self, key: &str) {
        // What these keys do by default goes by their numbers.
        let number = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => 0,
        };
        for event in ["keyDown", "keyUp"] {
            let text = if key == "Enter" && event == "keyDown" { "\r" } else { "" };
            let code = json!({ "type": event, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": number });
            self.call("Input.dispatchKeyEvent", code).await;
        }
    }

    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let window = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", window).await;
    }

    /// The page as a PNG in `file`.
    pub(crate) async fn screenshot(&mut self, file: &Path) {
        let image = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        std::fs::write(file, BASE64_STANDARD.decode(image["data"].as_str().unwrap()).unwrap()).unwrap();
    }

    /// Ends the browser as a crash would: the page says nothing to the server.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
