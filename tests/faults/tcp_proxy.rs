//! A TCP proxy in front of an API server: it forwards bytes, holds them back, or refuses connections, whatever they contain. TLS is between
//! the caller and the server.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are forwarded.
    Open,
    /// They are forwarded, with this delay for each read of what the caller sends.
    Slow(Duration),
    /// They are accepted, and nobody answers.
    Silent,
    /// They break, and new ones are closed at once.
    Shut,
}

impl Way {
    fn passes(self) -> bool {
        matches!(self, Self::Open | Self::Slow(_))
    }
}

/// A proxy.
pub struct TcpProxy {
    port: u16,
    way: watch::Sender<Way>,
    taken: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

/// A counted connection.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl TcpProxy {
    /// An open proxy in front of a server, `https://127.0.0.1:port`.
    pub async fn before(server: &str) -> Self {
        let address = server.strip_prefix("https://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, seen) = watch::channel(Way::Open);
        let taken = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let (count, there) = (taken.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::AcqRel);
                let counted = Counted::new(&there);
                let led = lead(caller, address.clone(), seen.clone());
                tokio::spawn(async move {
                    led.await;
                    drop(counted);
                });
            }
        });
        Self { port, way, taken, open }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What happens to connections from now on.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// How many connections were made.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

async fn lead(caller: TcpStream, address: String, mut way: watch::Receiver<Way>) {
    if way.borrow().passes() {
        let Ok(server) = TcpStream::connect(&address).await else { return };
        let ((from, back), (answers, to)) = (caller.into_split(), server.into_split());
        let lagging = way.clone();
        let lag = || match *lagging.borrow() {
            Way::Slow(lag) => lag,
            _ => Duration::ZERO,
        };
        tokio::select! {
            _ = pass(&from, &to, lag) => return,
            _ = pass(&answers, &back, || Duration::ZERO) => return,
            _ = way.wait_for(|way| !way.passes()) => {}
        }
        // An accepted connection is held as long as nobody answers, and then breaks.
        let _ = way.wait_for(|way| *way != Way::Silent).await;
    } else {
        let _ = way.wait_for(|way| *way != Way::Silent).await;
        drop(caller);
    }
}

/// Forwards what is sent in one direction, until the connection ends.
async fn pass(from: &OwnedReadHalf, to: &OwnedWriteHalf, lag: impl Fn() -> Duration) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        from.readable().await?;
        let mut rest = match from.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        tokio::time::sleep(lag()).await;
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
