//! Members of etcd on loopback, started from the program `etcd`.
#![allow(dead_code)] // each test uses some of it

use state_dictionary_etcd::{EtcdLog, EtcdOptions};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub struct Members {
    folder: TempDir,
    ports: Vec<(u16, u16)>,
    running: Vec<Option<Child>>,
    arguments: Vec<String>,
}

/// Whether the tests can run; says so if they cannot.
pub fn is_there() -> bool {
    let there = Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        println!("skipped: the program etcd is not installed (Debian: apt-get install etcd-server)");
    }
    there
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Members {
    pub async fn start(number: usize, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let ports = (0..number).map(|_| (free_port(), free_port())).collect();
        let running = (0..number).map(|_| None).collect();
        let mut members = Self { folder: tempfile::tempdir().unwrap(), ports, running, arguments };
        for index in 0..number {
            members.run(index);
        }
        members.until_ready().await;
        members
    }

    pub fn run(&mut self, index: usize) {
        let peer = |index: usize| format!("http://127.0.0.1:{}", self.ports[index].1);
        let cluster: Vec<_> = (0..self.ports.len()).map(|index| format!("m{index}={}", peer(index))).collect();
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{index}"), "--data-dir"]).arg(self.folder.path().join(index.to_string()));
        command.args(["--listen-client-urls", &self.endpoint(index), "--advertise-client-urls", &self.endpoint(index)]);
        command.args(["--listen-peer-urls", &peer(index), "--initial-advertise-peer-urls", &peer(index)]);
        command.args(["--initial-cluster", &cluster.join(","), "--log-level", "error"]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]).args(&self.arguments);
        self.running[index] = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    pub fn endpoint(&self, index: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[index].0)
    }

    pub fn endpoints(&self) -> Vec<String> {
        (0..self.ports.len()).map(|index| self.endpoint(index)).collect()
    }

    pub fn options(&self) -> EtcdOptions {
        EtcdOptions::new(self.endpoints(), "test").lease(Duration::from_secs(6)).attempt(Duration::from_secs(1))
    }

    pub async fn join(&self) -> EtcdLog {
        EtcdLog::join(self.options()).await.unwrap()
    }

    pub async fn client(&self, index: usize) -> etcd_client::Client {
        etcd_client::Client::connect([self.endpoint(index)], None).await.unwrap()
    }

    async fn until_ready(&self) {
        let start = Instant::now();
        loop {
            let ready = async {
                etcd_client::Client::connect([self.endpoint(0)], None).await.ok()?.put("ready", "", None).await.ok()
            };
            if tokio::time::timeout(Duration::from_secs(1), ready).await.is_ok_and(|ready| ready.is_some()) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "etcd does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        loop {
            for index in 0..self.ports.len() {
                let asked = async {
                    let status = self.client(index).await.status().await.ok()?;
                    (status.leader() == status.header()?.member_id()).then_some(index)
                };
                if let Ok(Some(leader)) = tokio::time::timeout(Duration::from_secs(1), asked).await {
                    return leader;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn kill(&mut self, index: usize) {
        if let Some(mut member) = self.running[index].take() {
            member.kill().unwrap();
            member.wait().unwrap();
        }
    }

    /// Sends a signal: `STOP` or `CONT`.
    pub fn signal(&self, index: usize, signal: &str) {
        let id = self.running[index].as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for index in 0..self.running.len() {
            self.kill(index);
        }
    }
}
