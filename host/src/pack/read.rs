//! Reading YAML nodes into values: each reader takes what it knows and reports every fault it meets.

use super::{
    diagnostics::{Place, Report, nearest, suggestion},
    yaml::{Node, Yaml},
};

/// A mapping while it is read: its keys are known, and every other one has been reported.
pub(super) struct Table<'a> {
    node: &'a Node,
    what: &'static str,
    /// Known keys that an unknown one was probably meant to be: they are not told again as missing.
    misspelt: Vec<String>,
}

impl<'a> Table<'a> {
    /// `None`, with a fault, when the node is no mapping.
    pub(super) fn read(
        node: &'a Node,
        what: &'static str,
        known: &[&str],
        report: &mut Report,
    ) -> Option<Self> {
        let Yaml::Map(entries) = &node.value else {
            report.fault(&node.at, format!("{what} must be a mapping, this is {}", node.kind()), None);
            return None;
        };
        let mut misspelt = Vec::new();
        for (key, _) in entries {
            if !known.contains(&key.text.as_str()) {
                let message = format!("unknown key `{}` in {what}", key.text);
                report.fault(&key.at, message, suggestion(&key.text, known));
                misspelt.extend(nearest(&key.text, known).map(str::to_owned));
            }
        }
        Some(Self { node, what, misspelt })
    }

    pub(super) fn at(&self) -> &'a Place {
        &self.node.at
    }

    /// A key that is `null` is not there: that is how a trigger takes back what its pack says.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| !matches!(node.value, Yaml::Null))
    }

    pub(super) fn require(&self, key: &str, report: &mut Report) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() && !self.is_misspelt(&[key]) {
            let help = format!("add `{key}: …`");
            // An empty value stands somewhere; a missing one is the mapping's fault.
            match self.node.get(key) {
                Some(empty) => report.fault(&empty.at, format!("`{key}` is empty"), help),
                None => report.fault(&self.node.at, format!("{} lacks `{key}`", self.what), help),
            }
        }
        found
    }

    /// Whether one of these keys is there under a wrong spelling, which has been told.
    pub(super) fn is_misspelt(&self, keys: &[&str]) -> bool {
        self.misspelt.iter().any(|misspelt| keys.contains(&misspelt.as_str()))
    }
}

pub(super) fn string<'a>(node: &'a Node, what: &str, report: &mut Report) -> Option<&'a str> {
    let text = node.as_str();
    if text.is_none() {
        let help = node.text().map(|text| format!("write it in quotes: \"{text}\""));
        report.fault(&node.at, format!("{what} must be a string, this is {}", node.kind()), help);
    }
    text
}

pub(super) fn boolean(node: &Node, what: &str, report: &mut Report) -> Option<bool> {
    if let Yaml::Bool(value) = node.value {
        return Some(value);
    }
    let help = match node.as_str() {
        Some("yes" | "on" | "Yes" | "On") => "YAML 1.2 knows only `true` and `false`: write `true`",
        Some("no" | "off" | "No" | "Off") => "YAML 1.2 knows only `true` and `false`: write `false`",
        _ => "write `true` or `false`",
    };
    report.fault(&node.at, format!("{what} must be a boolean, this is {}", node.kind()), help.to_owned());
    None
}

/// A whole number within `range`.
pub(super) fn integer(
    node: &Node,
    what: &str,
    range: std::ops::RangeInclusive<u32>,
    report: &mut Report,
) -> Option<u32> {
    let value = match &node.value {
        Yaml::Number(number) => number.as_u64().and_then(|value| u32::try_from(value).ok()),
        _ => None,
    };
    let value = value.filter(|value| range.contains(value));
    if value.is_none() {
        let (low, high) = (range.start(), range.end());
        let written = match &node.value {
            Yaml::Number(_) => node.text().unwrap_or_default().to_owned(),
            Yaml::String(text) => format!("the string `{text}`"),
            _ => node.kind().to_owned(),
        };
        report.fault(
            &node.at,
            format!("{what} must be a whole number from {low} to {high}, this is {written}"),
            None,
        );
    }
    value
}

pub(super) fn list<'a>(node: &'a Node, what: &str, report: &mut Report) -> Option<&'a [Node]> {
    if let Yaml::List(items) = &node.value {
        return Some(items);
    }
    let help = match &node.value {
        Yaml::String(text) => Some(format!("write it as a list: [{text}]")),
        Yaml::Map(_) => Some("begin it with `- `: one is a list of one".to_owned()),
        _ => None,
    };
    report.fault(&node.at, format!("{what} must be a list, this is {}", node.kind()), help);
    None
}

/// A string that is one of the words `known`.
pub(super) fn word<'a>(node: &'a Node, what: &str, known: &[&str], report: &mut Report) -> Option<&'a str> {
    let text = string(node, what, report)?;
    if known.contains(&text) {
        return Some(text);
    }
    report.fault(&node.at, format!("`{text}` is no {what}"), suggestion(text, known));
    None
}

/// A header's name.
pub(super) fn header(node: &Node, what: &str, report: &mut Report) -> Option<http::HeaderName> {
    parsed(node, what, HEADER_HELP, report, |text| {
        text.parse().map_err(|_| format!("`{text}` can't be the name of a header"))
    })
}

pub(super) const HEADER_HELP: &str = "a header's name has letters, digits and -, such as X-Request-Id";

pub(super) const PATH_HELP: &str = "write the path to one value: $.a.b";

/// Reads a string with a parser of its own; the parser's error becomes the fault.
pub(super) fn parsed<T>(
    node: &Node,
    what: &str,
    help: &str,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = string(node, what, report)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(message) => {
            report.fault(&node.at, format!("{what}: {message}"), (!help.is_empty()).then(|| help.to_owned()));
            None
        }
    }
}
