//! Where a request comes from: the peer, unless the peer is a trusted proxy that says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// The hops of every line of the header, the sender's first; `None` when there is no such header. A hop that can't be
/// read is none.
fn chain(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<Option<IpAddr>>> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    if lines.is_empty() {
        return None;
    }
    let hops = lines.iter().flat_map(|line| match line.to_str() {
        Ok(text) if name == header::FORWARDED => forwarded(text),
        Ok(text) => text.split(',').map(|hop| address(hop.trim())).collect(),
        Err(_) => vec![None],
    });
    Some(hops.collect())
}

/// The hops of one line of `Forwarded`, such as `for="[2001:db8::1]:4711";proto=https, for=192.0.2.1` (RFC 7239). Where
/// a quoted text has no end, or stands where none may, the whole line is one hop that can't be read: its commas may
/// stand inside the quotes or outside of them.
fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    let Some(elements) = elements(line) else { return vec![None] };
    let hop = |pairs: Vec<(String, String)>| {
        let mut own = pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case("for"));
        match (own.next(), own.next()) {
            (Some((_, value)), None) => node(value),
            _ => None,
        }
    };
    elements.into_iter().map(hop).collect()
}

/// The name and value of each pair of each element, values unquoted.
fn elements(line: &str) -> Option<Vec<Vec<(String, String)>>> {
    let mut elements = vec![Vec::new()];
    let mut rest = line.trim_matches(BLANKS);
    while !rest.is_empty() {
        let end = rest.find(['=', ',', ';']).unwrap_or(rest.len());
        let name = rest[..end].trim_matches(BLANKS);
        if name.contains(['"', '\\']) {
            return None;
        }
        rest = &rest[end..];
        if let Some(value) = rest.strip_prefix('=') {
            let (value, after) = if value.starts_with('"') { quoted(value)? } else { unquoted(value)? };
            elements.last_mut()?.push((name.to_owned(), value));
            rest = after.trim_start_matches(BLANKS);
        } else if !name.is_empty() {
            return None;
        }
        match rest.chars().next() {
            Some(';') => {}
            Some(',') => elements.push(Vec::new()),
            None => break,
            Some(_) => return None,
        }
        rest = rest[1..].trim_start_matches(BLANKS);
    }
    Some(elements)
}

/// A quoted text that the line begins with, and what comes after it.
fn quoted(line: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = line.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &line[at + 1..])),
            '\\' => text.push(characters.next()?.1),
            other => text.push(other),
        }
    }
    None
}

/// A bare value. More than a token is taken, since some proxies write ports without quotes.
fn unquoted(line: &str) -> Option<(String, &str)> {
    let end = line.find([',', ';', ' ', '\t']).unwrap_or(line.len());
    let (text, after) = line.split_at(end);
    (!text.contains(['"', '\\', '='])).then(|| (text.to_owned(), after))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// `192.0.2.1`, `192.0.2.1:4711`, `192.0.2.1:_port`, `[2001:db8::1]:4711`; not `unknown` and `_hidden`.
fn node(text: &str) -> Option<IpAddr> {
    let (host, port) = match text.rfind(':') {
        Some(at)
            if !text[at..].contains(']') && text[..at].find(':').is_none_or(|_| text.starts_with('[')) =>
        {
            (&text[..at], Some(&text[at + 1..]))
        }
        _ => (text, None),
    };
    let is_port = |port: &str| {
        let digits = port.strip_prefix('_').unwrap_or(port);
        !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if port.is_some_and(|port| !is_port(port)) {
        return None;
    }
    address(host)
}

/// An address, with a port or without; IPv6 in brackets or bare.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
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
            // Commas and semicolons inside quotes divide nothing.
            (proxy, vec![("forwarded", r#"host="x,for=203.0.113.5""#)], proxy),
            (proxy, vec![("forwarded", r#"for=198.51.100.1, host="x;for=203.0.113.5""#)], proxy),
            (proxy, vec![("forwarded", r#"host="x,for=203.0.113.5";for=198.51.100.1"#)], "198.51.100.1"),
            (
                proxy,
                vec![("forwarded", r#"host="a\",for=203.0.113.5";FOR="198.51.100.1:80""#)],
                "198.51.100.1",
            ),
            (proxy, vec![("forwarded", r#"for="198\.51.100.1""#)], "198.51.100.1"),
            (proxy, vec![("forwarded", "for=203.0.113.66,,for=10.2.3.4")], "10.2.3.4"),
            (proxy, vec![("forwarded", "for=198.51.100.1:_x;by=_y , for=10.2.3.4:80")], "198.51.100.1"),
            (
                proxy,
                vec![("forwarded", "for=203.0.113.5"), ("forwarded", "for=198.51.100.1")],
                "198.51.100.1",
            ),
            (proxy, vec![("forwarded", "for=[2001:db9::7]:4711")], "2001:db9::7"),
            (proxy, vec![("forwarded", "for=\"[2001:db9::7]\"")], "2001:db9::7"),
            // What can't be read ends the walk at the hop before.
            (proxy, vec![("forwarded", r#"for="203.0.113.5, for=198.51.100.1"#)], proxy),
            (proxy, vec![("forwarded", r#"for=203.0.113.5" , for=198.51.100.1"#)], proxy),
            (proxy, vec![("forwarded", r#"x"y=1, for=198.51.100.1"#)], proxy),
            (proxy, vec![("forwarded", "for=203.0.113.5;for=198.51.100.1")], proxy),
            (proxy, vec![("forwarded", r#"for=198.51.100.1, for="_hidden", for=10.2.3.4"#)], "10.2.3.4"),
            (proxy, vec![("forwarded", "for=198.51.100.1, for=unknown")], proxy),
            (proxy, vec![("forwarded", "for=203.0.113.5 198.51.100.1")], proxy),
            (proxy, vec![("forwarded", "for = 198.51.100.1")], proxy),
            (proxy, vec![("forwarded", "for=\"198.51.100.1:80 \"")], proxy),
            (proxy, vec![(xff, "[198.51.100.1]")], proxy),
            (proxy, vec![(xff, "\"198.51.100.1\"")], proxy),
            (proxy, vec![(xff, "203.0.113.5"), (xff, "198.51.100.1")], "198.51.100.1"),
            (proxy, vec![(xff, "198.51.100.1, [2001:db8::1]:80, 10.2.3.4")], "198.51.100.1"),
            // Both, and one of them from outside.
            (proxy, vec![(xff, "198.51.100.1"), ("forwarded", "for=203.0.113.66")], "0.0.0.0"),
            (proxy, vec![(xff, "198.51.100.1"), ("forwarded", "for=198.51.100.1")], "198.51.100.1"),
        ] {
            let got = source_of(peer.parse().unwrap(), &post(&headers, "").headers, &trusted);
            assert_eq!(got, expected.parse::<IpAddr>().unwrap(), "{peer} {headers:?}");
        }
    }
}
