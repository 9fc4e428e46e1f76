//! A backend's socket under hyper: hands on what answers a request, and nothing that is refused or that no request asked for.
//!
//! After the first such byte the connection is of no use: every read and write fails, and the pool does not keep it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use holdline_core::wire::guard::{Answers, Fed, Refused};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::socket::Socket;
use crate::telemetry::Metrics;

/// What a connection's socket and whoever sends requests over it tell each other.
pub(crate) struct Watch {
    /// A request is about to be written; whether it is a HEAD.
    asked: Cell<Option<bool>>,
    /// Why the connection is of no use any more.
    wrong: Cell<Option<Refused>>,
    metrics: Arc<Metrics>,
}

impl Watch {
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Rc<Self> {
        Rc::new(Watch { asked: Cell::new(None), wrong: Cell::new(None), metrics: Arc::clone(metrics) })
    }

    /// To be told before a request is given to hyper.
    pub(crate) fn ask(&self, is_head: bool) {
        self.asked.set(Some(is_head));
    }

    /// Why the connection is of no use any more.
    pub(crate) fn wrong(&self) -> Option<Refused> {
        self.wrong.get()
    }

    fn refuse(&self, refused: Refused) -> io::Error {
        self.metrics.bad_input("backend_answer");
        self.wrong.set(Some(refused));
        io::Error::new(io::ErrorKind::InvalidData, refused)
    }
}

/// The socket, with its answers checked.
pub(crate) struct Checked {
    stream: Socket,
    watch: Rc<Watch>,
    answers: Answers,
}

impl Checked {
    /// `head_max`: the longest head of an answer in bytes.
    pub(crate) fn new(stream: Socket, watch: Rc<Watch>, head_max: usize) -> Self {
        Checked { stream, watch, answers: Answers::new(head_max) }
    }

    /// Before anything is written: if it is the beginning of a request, nothing may have come from the backend, for that would be
    /// read as the answer.
    fn begin(&mut self) -> io::Result<()> {
        if let Some(refused) = self.watch.wrong() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, refused));
        }
        if let Some(is_head) = self.watch.asked.take() {
            if !self.answers.is_idle() || self.stream.has_unread() {
                return Err(self.watch.refuse(Refused::Unasked));
            }
            self.answers.ask(is_head);
        }
        Ok(())
    }

    /// How much of `new` belongs to the answer.
    fn judge(&mut self, new: &[u8]) -> io::Result<usize> {
        match self.answers.feed(new) {
            Ok(Fed::Head | Fed::Body) => Ok(new.len()),
            Ok(Fed::End(n)) => {
                if n < new.len() {
                    // The answer itself is whole and good.
                    let _ = self.watch.refuse(Refused::Unasked);
                }
                Ok(n)
            }
            Err(refused) => Err(self.watch.refuse(refused)),
        }
    }
}

impl AsyncRead for Checked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(refused) = this.watch.wrong() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refused)));
        }
        let start = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > start {
            let judged = this.judge(&buf.filled()[start..]);
            buf.set_filled(start + *judged.as_ref().unwrap_or(&0));
            judged?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Checked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.begin()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.begin()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Checked, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (ours, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let watch = Watch::new(&Metrics::new());
        (Checked::new(Socket::Plain(ours.unwrap()), watch, 1 << 10), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn row_15_no_request_is_written_behind_bytes_that_were_not_read() {
        let (mut checked, mut backend) = pair().await;
        backend.write_all(b"H").await.unwrap();
        checked.stream.tcp().peek(&mut [0; 1]).await.unwrap();
        checked.watch.ask(false);
        assert!(checked.write(b"GET / HTTP/1.1\r\n\r\n").await.is_err());
        assert_eq!(checked.watch.wrong(), Some(Refused::Unasked));
        assert!(checked.write(b"GET / HTTP/1.1\r\n\r\n").await.is_err() && checked.read(&mut [0; 9]).await.is_err());
        drop(checked);
        let mut seen = Vec::new();
        let _ = backend.read_to_end(&mut seen).await;
        assert!(seen.is_empty());
    }

    #[tokio::test]
    async fn an_answer_is_handed_on_and_what_follows_it_is_not() {
        let (mut checked, mut backend) = pair().await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        checked.watch.ask(false);
        checked.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        backend.write_all(&[&answer[..], b"more"].concat()).await.unwrap();
        let mut seen = vec![0; answer.len()];
        checked.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, answer);
        assert!(checked.read(&mut [0; 9]).await.is_err());
    }
}
