//! A socket before the engine's: it hears every request, and lets faults happen.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::stage::Dock;

/// What happens to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection ends before this request, counted from 1, has reached the engine.
    CutBefore(usize),
    /// The engine does what this request says, but its answer is lost.
    CutAnswer(usize),
    /// From this request on nobody is there.
    GoneFrom(usize),
    /// Each request takes so much longer.
    Slow(Duration),
    /// From this request on nobody answers.
    DeafFrom(usize),
    /// What has this in its path is not there.
    Absent(&'static str),
    /// The connection of the first request ends that has this in its path.
    CutFirst(&'static str),
}

#[derive(Debug)]
struct State {
    fault: Fault,
    requests: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct FaultSocket {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl FaultSocket {
    pub fn new(dock: &Dock) -> Self {
        Self::in_folder(dock.path())
    }

    pub fn in_folder(folder: &Path) -> Self {
        let path = folder.join("fault.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let state = Arc::new(Mutex::new(State { fault: Fault::None, requests: Vec::new() }));
        let engine = crate::dock::engine();
        let engine = PathBuf::from(engine.strip_prefix("unix://").expect("a local engine"));
        let each = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&engine).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&each)));
            }
        });
        Self { address: format!("unix://{}", path.display()), state }
    }

    /// From now on this happens; requests are counted anew.
    pub fn set(&self, fault: Fault) {
        *self.state.lock().unwrap() = State { fault, requests: Vec::new() };
    }

    /// What was asked since.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// What becomes of one request.
enum Fate {
    Forward,
    LoseAnswer,
    Delay(Duration),
    End,
    Silence,
    Deny,
}

fn has(line: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(line).contains(what)
}

const DENIED: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n\
    content-length: 29\r\n\r\n{\"message\":\"it is elsewhere\"}";

fn fate(state: &Mutex<State>, bytes: &[u8]) -> Fate {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    // What else comes is the body of a request.
    let is_head = line.ends_with(b" HTTP/1.1");
    let mut state = state.lock().unwrap();
    if is_head {
        state.requests.push(String::from_utf8_lossy(line).into_owned());
    }
    let number = state.requests.len();
    match state.fault {
        Fault::GoneFrom(from) if number >= from => Fate::End,
        Fault::DeafFrom(from) if number >= from => Fate::Silence,
        Fault::CutBefore(at) if is_head && number == at => Fate::End,
        Fault::CutAnswer(at) if is_head && number == at => Fate::LoseAnswer,
        Fault::Slow(by) if is_head => Fate::Delay(by),
        Fault::Absent(what) if is_head && has(line, what) => Fate::Deny,
        Fault::CutFirst(what) if is_head && has(line, what) => {
            state.fault = Fault::None;
            Fate::End
        }
        _ => Fate::Forward,
    }
}

async fn carry(client: UnixStream, server: UnixStream, state: Arc<Mutex<State>>) -> Option<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut loses_answer = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let bytes = &asked[..read.ok().filter(|read| *read > 0)?];
                match fate(&state, bytes) {
                    Fate::Forward => {}
                    Fate::LoseAnswer => loses_answer = true,
                    Fate::Delay(by) => tokio::time::sleep(by).await,
                    Fate::End => return None,
                    Fate::Silence => std::future::pending().await,
                    Fate::Deny => {
                        to_client.write_all(DENIED).await.ok()?;
                        continue;
                    }
                }
                to_server.write_all(bytes).await.ok()?;
            }
            read = from_server.read(&mut answered) => {
                let bytes = &answered[..read.ok().filter(|read| *read > 0)?];
                if loses_answer {
                    return None;
                }
                to_client.write_all(bytes).await.ok()?;
            }
        }
    }
}
