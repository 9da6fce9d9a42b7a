//! A registry that answers as a test says. Real registries can't be made malicious.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server that answers each call as it is told to, and records the calls.
pub(crate) struct Server {
    /// Host and port.
    pub(crate) host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// The request heads of all calls.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Starts a server. `answer` gets the head of a call, and host and port.
pub(crate) fn server(answer: impl Fn(&str, &str) -> String + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (told, name) = (asked.clone(), host.clone());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    break;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let _ = stream.read_exact(&mut vec![0; length.unwrap_or_default()]);
            let answer = answer(&head, &name);
            told.lock().unwrap().push(head);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Server { host, asked }
}

/// A successful answer with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// An answer with a header, and text that nobody may repeat.
pub(crate) fn says(code: u16, header: &str) -> String {
    format!("HTTP/1.1 {code} X\r\n{header}\r\ncontent-length: 20\r\nconnection: close\r\n\r\ncanary canary canary")
}
