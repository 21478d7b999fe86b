//! Where a request comes from: the peer, unless the peer is a trusted proxy that says otherwise.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The sender's address. The chain of a header is walked from its end, which the nearest proxy wrote, as long
/// as the speaker is trusted; what can't be read is not walked past. When both headers are there and
/// disagree, one of them came from outside: the source is 0.0.0.0, which no allow-list has.
pub fn source_of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let walked = |name| chain(headers, &name).map(|chain| walk(peer, &chain, trusted));
    match (walked(X_FORWARDED_FOR), walked(header::FORWARDED)) {
        (Some(one), Some(other)) if one != other => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (told, also) => told.or(also).unwrap_or(peer),
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

fn walk(peer: IpAddr, chain: &[Option<IpAddr>], trusted: &[IpNet]) -> IpAddr {
    let mut source = peer;
    for hop in chain.iter().rev() {
        match hop {
            Some(address) => source = *address,
            None => return source,
        }
        if !is_trusted(source, trusted) {
            return source;
        }
    }
    source
}

/// The hops of every line of the header, the sender's first; `None` when there is no such header.
fn chain(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<Option<IpAddr>>> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    if lines.is_empty() {
        return None;
    }
    let hops = lines.iter().flat_map(|line| {
        let text = line.to_str().unwrap_or_default();
        text.split(',').map(|hop| if name == header::FORWARDED { forwarded(hop) } else { address(hop) })
    });
    Some(hops.collect())
}

/// `for="[2001:db8::1]:4711";proto=https` (RFC 7239)
fn forwarded(hop: &str) -> Option<IpAddr> {
    let mut pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::post;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let proxy = "10.0.0.1";
        let xff = "x-forwarded-for";
        for (peer, headers, expected) in [
            // Nobody else is believed.
            ("192.0.2.9", vec![(xff, "198.51.100.1")], "192.0.2.9"),
            // A missing or unreadable header leaves the proxy itself.
            (proxy, vec![], proxy),
            (proxy, vec![(xff, "")], proxy),
            (proxy, vec![(xff, "unknown")], proxy),
            (proxy, vec![(xff, "198.51.100.1, nonsense")], proxy),
            // The nearest address that no trusted proxy vouches for.
            (proxy, vec![(xff, "198.51.100.1")], "198.51.100.1"),
            (proxy, vec![(xff, "203.0.113.66, 198.51.100.1")], "198.51.100.1"),
            (proxy, vec![(xff, "203.0.113.66, 198.51.100.1, 10.2.3.4")], "198.51.100.1"),
            (proxy, vec![(xff, "10.9.9.9, 10.2.3.4")], "10.9.9.9"),
            (proxy, vec![(xff, "198.51.100.1:4711")], "198.51.100.1"),
            (proxy, vec![(xff, "::ffff:198.51.100.1")], "198.51.100.1"),
            ("::ffff:10.0.0.1", vec![(xff, "198.51.100.1")], "198.51.100.1"),
            (
                proxy,
                vec![("forwarded", "for=203.0.113.66, For=\"[2001:db9::7]:4711\";proto=https")],
                "2001:db9::7",
            ),
            (proxy, vec![("forwarded", "proto=https")], proxy),
            // Both, and one of them from outside.
            (proxy, vec![(xff, "198.51.100.1"), ("forwarded", "for=203.0.113.66")], "0.0.0.0"),
            (proxy, vec![(xff, "198.51.100.1"), ("forwarded", "for=198.51.100.1")], "198.51.100.1"),
        ] {
            let got = source_of(peer.parse().unwrap(), &post(&headers, "").headers, &trusted);
            assert_eq!(got, expected.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
        }
    }
}
