//! A filter that answers for many files: large letters in the work tree, small ones in the
//! repository. It notes each file in a log, and never answers for one whose name begins with `hang`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};

use gix::bstr::ByteSlice as _;
use gix::filter::plumbing::driver::process::{Server, Status};

fn main() {
    let log = std::env::args().nth(1).unwrap();
    let note = |line: &str| {
        let mut file = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        writeln!(file, "{line}").unwrap();
    };
    note("started");
    let mut server = Server::handshake(
        std::io::stdin(),
        std::io::stdout(),
        "git-filter",
        &mut |versions| versions.contains(&2).then_some(2),
        &["clean", "smudge"],
    )
    .unwrap();
    while let Some(mut request) = server.next_request().unwrap() {
        let mut content = Vec::new();
        request.as_read().read_to_end(&mut content).unwrap();
        let path = request.meta.iter().find(|(key, _)| key == "pathname").unwrap().1.to_string();
        note(&format!("{} {path}", request.command));
        while path.starts_with("hang") {
            std::thread::park();
        }
        let filtered = match request.command.as_str() {
            "smudge" => content.to_ascii_uppercase(),
            _ => content.to_ascii_lowercase(),
        };
        request.write_status(Status::success()).unwrap();
        request.as_write().write_all(&filtered).unwrap();
        request.write_status(Status::Previous).unwrap();
        // Whatever is not ASCII is left alone, so that both ways are the same.
        debug_assert_eq!(filtered.as_bstr().len(), content.len());
    }
}
