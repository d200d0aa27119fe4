//! One HTTP GET, enough for the status pages of a node.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The time a node gets to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Gets `path`; returns the status code and the body.
///
/// # Errors
/// The connection failed or the answer is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    // HTTP/1.0 asks for an answer without chunks that ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| io::Error::other("not an HTTP answer"))?;
    let status = String::from_utf8_lossy(&answer[..head.min(32)])
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| io::Error::other("an HTTP answer without status"))?;
    Ok((status, answer.split_off(head + 4)))
}
