//! Connections to addresses that an administrator of a host names. They never go to addresses at which a machine answers questions about
//! itself.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

/// Refuses a URL whose host is itself such an address. Names are checked by [`Guarded`] once they are resolved.
///
/// # Errors
/// Why nothing is sent there.
pub(crate) fn check(uri: &Uri) -> Result<(), String> {
    match uri.host().and_then(literal).filter(|a| is_link_local(*a)) {
        Some(address) => Err(refused(address)),
        None => Ok(()),
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn refused(address: IpAddr) -> String {
    format!("has the link-local address {address}, where machines answer questions about themselves: nothing is sent there")
}

/// At such an address a cloud tells a machine its credentials. No receiver has one.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_link_local(),
            // The last one is the metadata service of a cloud.
            None => v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
        },
    }
}

/// Resolves names as the system does, and refuses those that lead to link-local addresses.
#[derive(Clone)]
pub(crate) struct Guarded(GaiResolver);

impl Default for Guarded {
    fn default() -> Self {
        Self(GaiResolver::new())
    }
}

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.0.call(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            match found.iter().find(|a| is_link_local(a.ip())) {
                Some(address) => Err(std::io::Error::other(refused(address.ip()))),
                None => Ok(found.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_metadata_are_refused_in_every_form() {
        for refused in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"] {
            assert!(literal(refused).is_some_and(is_link_local), "{refused}");
        }
        for fine in ["127.0.0.1", "10.0.0.1", "[::1]", "[fd00::1]"] {
            assert!(literal(fine).is_some_and(|a| !is_link_local(a)), "{fine}");
        }
        assert_eq!(literal("sink.example.test"), None);
    }
}
