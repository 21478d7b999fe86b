//! What templates may call, each paying for what it makes before it makes it: see [`crate::meter`].

use minijinja::{
    Environment, Error, ErrorKind, State, Value, escape_formatter, filters, functions, tests,
    value::{Rest, ValueKind, ValueOrKwargs},
};

use super::value;
use crate::meter::{enter, of_text, spend, spend_bytes};

pub(super) const FUNCTIONS: [&str; 2] = ["dict", "range"];
pub(super) const FILTERS: [&str; 46] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
    "zip",
];
pub(super) const TESTS: [&str; 40] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "safe",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// What a value of the engine takes in a list, at least.
const VALUE_BYTES: usize = 48;
/// What a text takes when it is written within a list or mapping: control characters are written out.
const QUOTED_FACTOR: usize = 6;
/// How deep a value that a template makes may be.
const DEPTH_MAX: usize = 64;

type Result<T> = std::result::Result<T, Error>;
type Price = fn(&[Value]) -> Result<()>;

/// Puts all of it into an environment in place of the engine's own.
pub(super) fn install(engine: &mut Environment<'static>) {
    for name in ["pprint", "tojson", "urlencode"] {
        engine.remove_filter(name);
    }
    // What a namespace holds can be itself: it would never be freed.
    for name in ["debug", "namespace"] {
        engine.remove_global(name);
    }
    install_functions(engine);
    install_filters(engine);
    install_tests(engine);
    engine.set_formatter(|output, state, value| {
        pay(spend_bytes(measure(value)?))?;
        escape_formatter(output, state, value)
    });
}

fn install_functions(engine: &mut Environment<'static>) {
    engine.add_function("__look", |value: Value| look(&value).map(|()| value));
    engine.add_function("__within", |value: Value| within(&value).map(|()| value));
    engine.add_function("__copy", |value: Value| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => items(&value).map(Value::from),
        ValueKind::String => pay(spend_bytes(text_len(&value))).map(|()| value),
        _ => pay(spend(1)).map(|()| value),
    });
    engine.add_function("__each", |value: Value| pay(spend(1 + count(&value) as u64)).map(|()| value));
    engine.add_function("__write", |value: Value| pay(spend_bytes(measure(&value)?)).map(|()| value));
    engine.add_function("__times", |value: Value, times: usize| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items = items(&value)?;
            pay(spend_bytes(items.len().saturating_mul(times).saturating_mul(VALUE_BYTES)))?;
            Ok(Value::from(items))
        }
        ValueKind::String => pay(spend_bytes(text_len(&value).saturating_mul(times))).map(|()| value),
        _ => pay(spend(1)).map(|()| value),
    });
    engine.add_function("__number", |value: Value| match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::String | ValueKind::Map => Err(unfit(
            "a text or list is multiplied by a number that is written there, 10000 at most, and not by another value",
        )),
        _ => pay(spend(1)).map(|()| value),
    });
    let dict = Value::from_function(functions::dict);
    engine.add_function("dict", paying(dict, deep));
}

fn install_filters(engine: &mut Environment<'static>) {
    let table: [(&str, Value, Price); 42] = [
        ("abs", Value::from_function(filters::abs), cheap),
        ("attr", Value::from_function(filters::attr), cheap),
        ("batch", Value::from_function(filters::batch), counted_list),
        ("bool", Value::from_function(filters::bool), cheap),
        ("capitalize", Value::from_function(filters::capitalize), text),
        ("count", Value::from_function(filters::length), cheap),
        ("d", Value::from_function(filters::default), cheap),
        ("default", Value::from_function(filters::default), cheap),
        ("dictsort", Value::from_function(filters::dictsort), deep),
        ("e", Value::from_function(filters::escape), escaped),
        ("escape", Value::from_function(filters::escape), escaped),
        ("first", Value::from_function(filters::first), cheap),
        ("float", Value::from_function(filters::float), cheap),
        ("format", Value::from_function(filters::format), formatted),
        ("groupby", Value::from_function(filters::groupby), deep),
        ("indent", Value::from_function(filters::indent), indented),
        ("int", Value::from_function(filters::int), cheap),
        ("items", Value::from_function(filters::items), deep),
        ("join", Value::from_function(filters::join), joined),
        ("last", Value::from_function(filters::last), cheap),
        ("length", Value::from_function(filters::length), cheap),
        ("lines", Value::from_function(filters::lines), split),
        ("list", Value::from_function(filters::list), list),
        ("lower", Value::from_function(filters::lower), text),
        ("map", Value::from_function(filters::map), list),
        ("max", Value::from_function(filters::max), deep),
        ("min", Value::from_function(filters::min), deep),
        ("reject", Value::from_function(filters::reject), list),
        ("rejectattr", Value::from_function(filters::rejectattr), list),
        ("replace", Value::from_function(filters::replace), replaced),
        ("reverse", Value::from_function(filters::reverse), list),
        ("round", Value::from_function(filters::round), cheap),
        ("safe", Value::from_function(filters::safe), text),
        ("select", Value::from_function(filters::select), list),
        ("selectattr", Value::from_function(filters::selectattr), list),
        ("slice", Value::from_function(filters::slice), counted_list),
        ("sort", Value::from_function(filters::sort), deep),
        ("split", Value::from_function(filters::split), split),
        ("string", Value::from_function(filters::string), text),
        ("sum", Value::from_function(filters::sum), summed),
        ("title", Value::from_function(filters::title), text),
        ("trim", Value::from_function(filters::trim), text),
    ];
    for (name, filter, price) in table {
        engine.add_filter(name, paying(filter, price));
    }
    engine.add_filter("unique", paying(Value::from_function(filters::unique), deep));
    engine.add_filter("upper", paying(Value::from_function(filters::upper), text));
    // The engine's are evaluated again and again wherever their result is.
    engine.add_filter("chain", |lists: Rest<Value>| chained(&lists));
    engine.add_filter("zip", |lists: Rest<Value>| zipped(&lists));
}

fn install_tests(engine: &mut Environment<'static>) {
    let compared: [(&[&str], Value); 6] = [
        (&["eq", "equalto", "=="], Value::from_function(tests::is_eq)),
        (&["ne", "!="], Value::from_function(tests::is_ne)),
        (&["lt", "lessthan", "<"], Value::from_function(tests::is_lt)),
        (&["le", "<="], Value::from_function(tests::is_le)),
        (&["gt", "greaterthan", ">"], Value::from_function(tests::is_gt)),
        (&["ge", ">="], Value::from_function(tests::is_ge)),
    ];
    for (names, test) in compared {
        for name in names {
            engine.add_test(*name, paying(test.clone(), |values| values.iter().try_for_each(look)));
        }
    }
    let texts = [
        ("lower", Value::from_function(tests::is_lower)),
        ("upper", Value::from_function(tests::is_upper)),
        ("startingwith", Value::from_function(tests::is_startingwith)),
        ("endingwith", Value::from_function(tests::is_endingwith)),
    ];
    for (name, test) in texts {
        engine.add_test(name, paying(test, cheap));
    }
    let is_in = Value::from_function(tests::is_in);
    engine.add_test(
        "in",
        paying(is_in, |values| {
            values.first().map_or(Ok(()), look)?;
            values.get(1).map_or(Ok(()), within)
        }),
    );
}

/// A function of the engine that is called once its price is paid.
fn paying(
    function: Value,
    price: Price,
) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value> + Send + Sync + 'static {
    move |state, arguments| {
        let arguments = arguments.into_values();
        price(&arguments)?;
        function.call(state, &arguments)
    }
}

fn pay(is_paid: bool) -> Result<()> {
    if is_paid { Ok(()) } else { Err(Error::new(ErrorKind::OutOfFuel, "the request's budget is used up")) }
}

fn unfit(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn text_len(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

/// At most how many bytes a value is when it is written.
fn measure(value: &Value) -> Result<usize> {
    measured(value, 1, 0)
}

fn measured(value: &Value, factor: usize, depth: usize) -> Result<usize> {
    if let Some(bytes) = value::measure(value) {
        return bytes.ok_or_else(|| Error::new(ErrorKind::OutOfFuel, "the request's budget is used up"));
    }
    if depth > DEPTH_MAX {
        return Err(unfit("a value that a template makes is nested more than 64 deep"));
    }
    match value.kind() {
        ValueKind::String => {
            let bytes = text_len(value);
            pay(spend(of_text(bytes)))?;
            Ok(bytes.saturating_mul(factor) + 2)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            pay(enter())?;
            let mut bytes = 2_usize;
            for item in value.try_iter()? {
                bytes = bytes.saturating_add(measured(&item, QUOTED_FACTOR, depth + 1)? + 2);
            }
            Ok(bytes)
        }
        ValueKind::Map => {
            pay(enter())?;
            let mut bytes = 2_usize;
            for key in value.try_iter()? {
                let member = value.get_item(&key)?;
                let both = measured(&key, QUOTED_FACTOR, depth + 1)?.saturating_add(measured(
                    &member,
                    QUOTED_FACTOR,
                    depth + 1,
                )?);
                bytes = bytes.saturating_add(both + 4);
            }
            Ok(bytes)
        }
        _ => pay(spend(1)).map(|()| 48),
    }
}

/// Before a value is compared.
fn look(value: &Value) -> Result<()> {
    match value.kind() {
        ValueKind::String => pay(spend(of_text(text_len(value)))),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => measure(value).map(drop),
        _ => pay(spend(1)),
    }
}

/// Before something is looked for in a value.
fn within(value: &Value) -> Result<()> {
    match value.kind() {
        ValueKind::Map => pay(spend(1)),
        _ => look(value),
    }
}

/// The items of a list, as a list of its own.
fn items(value: &Value) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    for item in value.try_iter()? {
        pay(spend_bytes(VALUE_BYTES))?;
        items.push(item);
    }
    Ok(items)
}

fn first(arguments: &[Value]) -> &Value {
    const NOTHING: &Value = &Value::UNDEFINED;
    arguments.first().unwrap_or(NOTHING)
}

/// The further arguments, named ones included.
fn further(arguments: &[Value]) -> Vec<Value> {
    let mut further = Vec::new();
    for argument in arguments.iter().skip(1) {
        if argument.kind() == ValueKind::Map && argument.is_kwargs() {
            let names = argument.try_iter().into_iter().flatten();
            further.extend(names.filter_map(|name| argument.get_item(&name).ok()));
        } else {
            further.push(argument.clone());
        }
    }
    further
}

fn largest_number(arguments: &[Value]) -> usize {
    further(arguments).iter().filter_map(Value::as_usize).max().unwrap_or(0)
}

fn longest_text(arguments: &[Value]) -> usize {
    further(arguments).iter().map(text_len).max().unwrap_or(0)
}

/// How many items, or characters.
fn count(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len)
}

fn cheap(arguments: &[Value]) -> Result<()> {
    let bytes: usize = arguments.iter().map(text_len).sum();
    pay(spend(of_text(bytes)))
}

/// As large as the first argument; another case can be larger.
fn text(arguments: &[Value]) -> Result<()> {
    const FACTOR: usize = 3;
    cheap(arguments)?;
    pay(spend_bytes(measure(first(arguments))?.saturating_mul(FACTOR)))
}

fn escaped(arguments: &[Value]) -> Result<()> {
    const FACTOR: usize = 6;
    pay(spend_bytes(measure(first(arguments))?.saturating_mul(FACTOR)))
}

/// A list of the same items.
fn list(arguments: &[Value]) -> Result<()> {
    pay(spend_bytes(count(first(arguments)).saturating_mul(VALUE_BYTES)))
}

fn counted_list(arguments: &[Value]) -> Result<()> {
    let values = count(first(arguments)).saturating_add(largest_number(arguments));
    pay(spend_bytes(values.saturating_mul(2 * VALUE_BYTES)))
}

/// All of the argument is looked at, and may be kept.
fn deep(arguments: &[Value]) -> Result<()> {
    list(arguments)?;
    arguments.iter().try_for_each(|argument| measure(argument).map(drop))
}

fn summed(arguments: &[Value]) -> Result<()> {
    deep(arguments)?;
    let value = first(arguments);
    let has_other = value.try_iter().is_ok_and(|mut items| {
        items.any(|item| matches!(item.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable))
    });
    if has_other { Err(unfit("`sum` is for numbers; `join` is for texts")) } else { Ok(()) }
}

fn joined(arguments: &[Value]) -> Result<()> {
    let separator = longest_text(arguments);
    let mut bytes = 0_usize;
    for item in first(arguments).try_iter()? {
        bytes = bytes.saturating_add(measure(&item)?).saturating_add(separator);
    }
    pay(spend_bytes(bytes))
}

fn replaced(arguments: &[Value]) -> Result<()> {
    cheap(arguments)?;
    let (Some(value), Some(from), Some(to)) = (arguments.first(), arguments.get(1), arguments.get(2)) else {
        return Ok(());
    };
    match (value.as_str(), from.as_str()) {
        (Some(value), Some(from)) => {
            let times = value.matches(from).count();
            pay(spend_bytes(times.saturating_mul(measure(to)?).saturating_add(value.len())))
        }
        _ => Err(unfit("`replace` is for texts")),
    }
}

fn indented(arguments: &[Value]) -> Result<()> {
    const WIDTH: usize = 4;
    let text = first(arguments).as_str().unwrap_or_default();
    pay(spend(of_text(text.len())))?;
    let lines = text.matches('\n').count() + 2;
    let width = largest_number(arguments).max(WIDTH);
    pay(spend_bytes(lines.saturating_mul(width).saturating_add(text.len())))
}

fn split(arguments: &[Value]) -> Result<()> {
    cheap(arguments)?;
    let text = first(arguments).as_str().unwrap_or_default();
    let parts = match arguments.get(1).and_then(Value::as_str) {
        Some(separator) => text.matches(separator).count() + 1,
        None => text.split_ascii_whitespace().count() + text.matches('\n').count() + 1,
    };
    pay(spend_bytes(parts.saturating_mul(VALUE_BYTES).saturating_add(text.len())))
}

fn formatted(arguments: &[Value]) -> Result<()> {
    const DIGITS_MAX: usize = 4;
    const WIDTH_MAX: usize = 10_000;
    const PLAIN: usize = 64;
    let format = first(arguments).as_str().unwrap_or_default();
    pay(spend(of_text(format.len())))?;
    let has_wide = format.split(|sign: char| !sign.is_ascii_digit()).any(|digits| digits.len() > DIGITS_MAX);
    if has_wide || format.contains('*') {
        return Err(unfit("a width in `format` is written with 4 digits at most"));
    }
    let width = if format.contains(|sign: char| sign.is_ascii_digit()) { WIDTH_MAX } else { PLAIN };
    let mut largest = width;
    for argument in further(arguments) {
        largest = largest.max(measure(&argument)?.saturating_add(width));
    }
    let places = format.matches('%').count();
    pay(spend_bytes(places.saturating_mul(largest).saturating_add(format.len())))
}

fn chained(lists: &[Value]) -> Result<Value> {
    let mut all = Vec::new();
    for list in lists {
        if list.kind() == ValueKind::Map {
            return Err(unfit("`chain` is for lists"));
        }
        all.append(&mut items(list)?);
    }
    Ok(Value::from(all))
}

fn zipped(lists: &[Value]) -> Result<Value> {
    let lists = lists.iter().map(items).collect::<Result<Vec<_>>>()?;
    let shortest = lists.iter().map(Vec::len).min().unwrap_or(0);
    pay(spend_bytes(shortest.saturating_mul(lists.len()).saturating_mul(VALUE_BYTES)))?;
    let row = |index: usize| {
        Value::from(lists.iter().filter_map(|list| list.get(index).cloned()).collect::<Vec<_>>())
    };
    Ok(Value::from((0..shortest).map(row).collect::<Vec<_>>()))
}
