//! Free ports on loopback.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context, Result};

/// Lower than the ports that the system gives to outgoing connections. While a server is down for a fault test, no client's connection may
/// take its port, or connect to itself there.
const RANGE: Range<u64> = 20_000..30_000;

/// Finds different ports that nobody listens on. Somebody may take one before it is used. Then the caller tries again with others.
pub(crate) fn free<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        // All are held until the last one is found, so that they differ.
        let listener = listen()?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn listen() -> Result<TcpListener> {
    for _ in 0..100 {
        // Two test processes that start together must not get the same ports.
        let random = RandomState::new().build_hasher().finish();
        let port = RANGE.start + random % (RANGE.end - RANGE.start);
        let port = u16::try_from(port)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener);
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")
}
