//! `/serve PORT`: a small real service that needs nothing but the kernel, for images without a
//! system in them. The tests compile it by itself, statically, with `rustc`.
//!
//! Its image says in its environment which version it is (`BUILD_VERSION`) and how it behaves
//! (`MODE`): `healthy` (also without it), `silent` (its health is 503), `wrong` (it says that it is
//! another version), `fades` (it ends a moment after it was well), `crash` (it ends after its start),
//! `worker` (it listens nowhere), `patient` (it waits until its port is free), `ailing` (its health is
//! good, and all else is 500).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (version, mode) = (variable("BUILD_VERSION"), variable("MODE"));
    eprintln!("{version} starts as `{mode}`");
    match mode.as_str() {
        "crash" => {
            eprintln!("something is missing");
            std::process::exit(3);
        }
        "worker" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        _ => {}
    }
    let port: u16 = std::env::args().nth(1).expect("a port").parse().expect("a port");
    let listener = loop {
        match TcpListener::bind(("0.0.0.0", port)) {
            Ok(listener) => break listener,
            Err(_) if mode == "patient" => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("cannot listen on {port}: {error}"),
        }
    };
    if mode == "fades" {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(700));
            std::process::exit(4);
        });
    }
    for stream in listener.incoming().flatten() {
        let (version, mode) = (version.clone(), mode.clone());
        std::thread::spawn(move || answer(stream, &version, &mode));
    }
}

fn answer(mut stream: TcpStream, version: &str, mode: &str) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let path = first.split(' ').nth(1)?;
        if path == "/ws" {
            return echo(&mut reader, &mut stream, version);
        }
        if let Some(ms) = path.strip_prefix("/slow?ms=") {
            std::thread::sleep(Duration::from_millis(ms.parse().ok()?));
        }
        let secret = || std::fs::read_to_string("/run/secrets/key").unwrap_or_default();
        let (status, body) = match path {
            "/health" if mode == "silent" => ("503 Service Unavailable", "not yet".to_owned()),
            "/secret" => ("200 OK", secret()),
            "/environment" => {
                let all: Vec<_> = std::env::vars().map(|(k, v)| format!("{k}={v}")).collect();
                ("200 OK", all.join("\n"))
            }
            "/" if mode == "ailing" => ("500 Internal Server Error", "broken".to_owned()),
            _ => ("200 OK", version.to_owned()),
        };
        let says = if mode == "wrong" { "0000000" } else { version };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nx-version: {says}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .ok()?;
    }
}

/// Says each short frame of a WebSocket (RFC 6455) again, until it is closed.
fn echo(reader: &mut impl Read, stream: &mut TcpStream, version: &str) -> Option<()> {
    // The answer to the one key that the load generator has.
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nx-version: {version}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    .ok()?;
    loop {
        let (mut head, mut mask) = ([0; 2], [0; 4]);
        reader.read_exact(&mut head).ok()?;
        reader.read_exact(&mut mask).ok()?;
        let mut frame = vec![0; usize::from(head[1] & 0x7f)];
        reader.read_exact(&mut frame).ok()?;
        for (byte, mask) in frame.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        frame.splice(0..0, [head[0], head[1] & 0x7f]);
        stream.write_all(&frame).ok()?;
        if head[0] == 0x88 {
            return None;
        }
    }
}
