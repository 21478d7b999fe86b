//! The `#[mapper]` attribute; use it as `hookpack_sdk::mapper`, where it is described.
//!
//! It reads the few tokens of a signature by itself: a parser for all of Rust would double the time in which a
//! mapper is built.

#![warn(missing_docs)]

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

const RIGHT: &str = "write `fn transform(delivery: Delivery) -> Result<Event>`";

/// Makes a function the mapper that this crate is built into.
#[proc_macro_attribute]
pub fn mapper(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let added = match (arguments.into_iter().next(), Signature::read(item.clone())) {
        (Some(argument), _) => Fault::new(argument.span(), "`#[mapper]` takes no arguments").into_tokens(),
        (None, Ok(signature)) => signature.into_tokens(),
        (None, Err(fault)) => fault.into_tokens(),
    };
    // The function stays as it was written: its tests call it. A delivery is for the mapper to keep, used up or not.
    let mut all = quoted("#[allow(clippy::needless_pass_by_value, reason = \"the signature is given\")]");
    all.extend(item);
    all.extend(added);
    all
}

/// What the glue must know of a mapper.
struct Signature {
    name: Ident,
    parameter: TokenStream,
    returned: TokenStream,
}

/// What is wrong, and where.
struct Fault {
    at: Span,
    message: String,
}

impl Signature {
    fn read(item: TokenStream) -> Result<Self, Fault> {
        let mut tokens = item.into_iter().peekable();
        let keyword = to_fn(&mut tokens)?;
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(Fault::new(keyword, "a mapper has a name"));
        };
        let parameters = match tokens.next() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
            _ => return Err(Fault::new(name.span(), "a mapper has no generic parameters")),
        };
        let parameter = parameter(&parameters)?;
        let returned: TokenStream = tokens
            .skip_while(|token| matches!(token, TokenTree::Punct(arrow) if "->".contains(arrow.as_char())))
            .take_while(
                |token| !matches!(token, TokenTree::Group(body) if body.delimiter() == Delimiter::Brace),
            )
            .collect();
        if returned.is_empty() {
            return Err(Fault::new(name.span(), "a mapper returns `Result<Event>` or `Result<Vec<Event>>`"));
        }
        Ok(Self { name, parameter, returned })
    }

    /// Checks of the two types, which report at the place where the author wrote them; and the export.
    fn into_tokens(self) -> TokenStream {
        let mut checks = quoted("::hookpack_sdk::__private::takes::<");
        checks.extend(self.parameter);
        checks.extend(quoted(">(); ::hookpack_sdk::__private::returns::<"));
        checks.extend(self.returned);
        checks.extend(quoted(">(); let _ ="));
        checks.extend([TokenTree::Ident(self.name.clone()), Punct::new(';', Spacing::Alone).into()]);

        let mut all = quoted("const _: () =");
        all.extend([braces(checks), Punct::new(';', Spacing::Alone).into()]);
        all.extend(quoted("#[cfg(target_arch = \"wasm32\")] ::hookpack_sdk::__export_mapper!"));
        all.extend([braces(TokenTree::Ident(self.name).into())]);
        all
    }
}

impl Fault {
    fn new(at: Span, message: &str) -> Self {
        Self { at, message: message.to_owned() }
    }

    fn into_tokens(self) -> TokenStream {
        let message = Literal::string(&format!("{}: {RIGHT}", self.message));
        let mut error = quoted("::core::compile_error!");
        error.extend([braces(TokenTree::Literal(message).into())]);
        error.into_iter().map(|token| at(self.at, token)).collect()
    }
}

/// Goes past attributes and visibility to `fn`.
fn to_fn(tokens: &mut impl Iterator<Item = TokenTree>) -> Result<Span, Fault> {
    let mut last = Span::call_site();
    for token in tokens {
        last = token.span();
        let TokenTree::Ident(word) = token else { continue };
        match word.to_string().as_str() {
            "fn" => return Ok(last),
            "pub" => {}
            qualifier @ ("async" | "const" | "extern" | "unsafe") => {
                return Err(Fault::new(last, &format!("a mapper is not `{qualifier}`")));
            }
            _ => break,
        }
    }
    Err(Fault::new(last, "`#[mapper]` goes on a function"))
}

/// The type of the only parameter.
fn parameter(parameters: &Group) -> Result<TokenStream, Fault> {
    let mut all = split_at_commas(parameters.stream());
    let (Some(only), None) = (all.pop(), all.pop()) else {
        return Err(Fault::new(parameters.span(), "a mapper has one parameter, the delivery"));
    };
    let colon = only.iter().position(
        |token| matches!(token, TokenTree::Punct(colon) if colon.as_char() == ':' && colon.spacing() == Spacing::Alone),
    );
    match colon {
        Some(colon) => Ok(only.into_iter().skip(colon + 1).collect()),
        None => Err(Fault::new(parameters.span(), "a mapper is a free function")),
    }
}

/// Commas between angle brackets belong to a type.
fn split_at_commas(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let (mut parts, mut part, mut depth) = (Vec::new(), Vec::new(), 0);
    for token in tokens {
        match &token {
            TokenTree::Punct(mark) if mark.as_char() == ',' && depth <= 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            TokenTree::Punct(mark) if mark.as_char() == '<' => depth += 1,
            TokenTree::Punct(mark) if mark.as_char() == '>' => depth -= 1,
            _ => {}
        }
        part.push(token);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn quoted(source: &str) -> TokenStream {
    source.parse().unwrap_or_default()
}

fn braces(inside: TokenStream) -> TokenTree {
    Group::new(Delimiter::Brace, inside).into()
}

fn at(span: Span, mut token: TokenTree) -> TokenTree {
    token.set_span(span);
    token
}
