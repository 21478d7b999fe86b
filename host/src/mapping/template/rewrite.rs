//! A template as it is run: the author's, with every operation that could make much of little led through `work.rs`.
//!
//! minijinja counts instructions, not what one of them makes: `~`, `+`, `*`, slices, comparisons, loops and output have
//! no hook. So the template is parsed, its operands are wrapped in calls of ours, and the result is written as a
//! template again. What could not be bounded so is not available, and is told when the pack loads.

use minijinja::{
    Value,
    machinery::{
        Token,
        ast::{BinOpKind, CallArg, CompareOpKind, Expr, Stmt, UnaryOpKind},
        parse, parse_expr, tokenize,
    },
    value::ValueKind,
};

use super::work::{FILTERS, FUNCTIONS, TESTS};

/// Why a template can't be used, and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    /// Words that may be meant: those that are known, and the one that was written.
    pub known: Option<(String, &'static [&'static str])>,
}

/// Parts (names, numbers, signs) of one leaf: each may nest the template deeper, and nesting costs stack.
const PARTS_MAX: usize = 4000;
/// Parts of one expression or statement.
const EXPRESSION_PARTS_MAX: usize = 300;
/// An `elif` stands within the one before.
const ELIFS_MAX: usize = 100;
/// How often a text or list may be repeated by a number that is written there.
const TIMES_MAX: usize = 10_000;

type Result<T> = std::result::Result<T, Fault>;

/// The template as it is run.
pub(super) fn template(source: &str) -> Result<String> {
    check_size(source, false)?;
    let parsed = parse(source, "template", minijinja::syntax::SyntaxConfig::default())
        .map_err(|error| unreadable(&error))?;
    let mut text = String::new();
    statement(&parsed, &mut text)?;
    Ok(text)
}

/// The expression as it is evaluated.
pub(super) fn expression(source: &str) -> Result<String> {
    check_size(source, true)?;
    rewritten(&parse_expr(source).map_err(|error| unreadable(&error))?)
}

fn fault(message: impl Into<String>) -> Fault {
    Fault { message: message.into(), known: None }
}

pub(super) fn unreadable(error: &minijinja::Error) -> Fault {
    let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    fault(format!("this template can't be read: {detail}"))
}

/// Before it is parsed: parsing already nests.
fn check_size(source: &str, is_expression: bool) -> Result<()> {
    let (mut all, mut here, mut elifs) = (0, 0, 0);
    for token in tokenize(source, is_expression, minijinja::syntax::SyntaxConfig::default()) {
        let (token, _) = token.map_err(|error| unreadable(&error))?;
        all += 1;
        here += 1;
        match token {
            Token::VariableEnd | Token::BlockEnd => here = 0,
            Token::Ident("elif") => elifs += 1,
            _ => {}
        }
        if all > PARTS_MAX {
            return Err(fault(format!("this template has more than {PARTS_MAX} parts")));
        }
        if here > EXPRESSION_PARTS_MAX {
            return Err(fault(format!(
                "an expression of this template has more than {EXPRESSION_PARTS_MAX} parts"
            )));
        }
        if elifs > ELIFS_MAX {
            return Err(fault(format!("this template has more than {ELIFS_MAX} `elif`s")));
        }
    }
    Ok(())
}

fn statements(statements: &[Stmt<'_>], text: &mut String) -> Result<()> {
    statements.iter().try_for_each(|one| statement(one, text))
}

fn statement(node: &Stmt<'_>, text: &mut String) -> Result<()> {
    match node {
        Stmt::Template(template) => statements(&template.children, text)?,
        // As output of a constant, which is counted.
        Stmt::EmitRaw(raw) => *text += &format!("{{{{ {} }}}}", quoted(raw.raw)),
        Stmt::EmitExpr(emit) => *text += &format!("{{{{ {} }}}}", rewritten(&emit.expr)?),
        Stmt::ForLoop(each) => {
            if each.recursive {
                return Err(fault("a recursive loop is not available here"));
            }
            let (target, items) = (target(&each.target)?, rewritten(&each.iter)?);
            *text += &format!("{{% for {target} in __each({items})");
            if let Some(filter) = &each.filter_expr {
                *text += &format!(" if {}", rewritten(filter)?);
            }
            *text += " %}";
            statements(&each.body, text)?;
            if !each.else_body.is_empty() {
                *text += "{% else %}";
                statements(&each.else_body, text)?;
            }
            *text += "{% endfor %}";
        }
        Stmt::IfCond(condition) => {
            *text += &format!("{{% if {} %}}", rewritten(&condition.expr)?);
            statements(&condition.true_body, text)?;
            if !condition.false_body.is_empty() {
                *text += "{% else %}";
                statements(&condition.false_body, text)?;
            }
            *text += "{% endif %}";
        }
        Stmt::WithBlock(with) => {
            let assign = |(name, value): &(Expr<'_>, Expr<'_>)| {
                Ok(format!("{} = {}", target(name)?, rewritten(value)?))
            };
            let assignments = with.assignments.iter().map(assign).collect::<Result<Vec<_>>>()?;
            *text += &format!("{{% with {} %}}", assignments.join(", "));
            statements(&with.body, text)?;
            *text += "{% endwith %}";
        }
        Stmt::Set(set) => {
            *text += &format!("{{% set {} = {} %}}", target(&set.target)?, rewritten(&set.expr)?);
        }
        Stmt::SetBlock(set) => {
            *text += &format!("{{% set {}", target(&set.target)?);
            if let Some(filter) = &set.filter {
                *text += &format!(" | {}", filters_alone(filter)?);
            }
            *text += " %}";
            statements(&set.body, text)?;
            *text += "{% endset %}";
        }
        Stmt::FilterBlock(block) => {
            *text += &format!("{{% filter {} %}}", filters_alone(&block.filter)?);
            statements(&block.body, text)?;
            *text += "{% endfilter %}";
        }
        Stmt::AutoEscape(_) => return Err(fault("`autoescape` is not available here: nothing is escaped")),
        Stmt::Do(_) => return Err(fault("`do` is not available here")),
    }
    Ok(())
}

/// What a loop or an assignment gives a name to.
fn target(expression: &Expr<'_>) -> Result<String> {
    match expression {
        Expr::Var(name) => Ok(name.id.to_owned()),
        Expr::List(list) => {
            Ok(format!("({})", list.items.iter().map(target).collect::<Result<Vec<_>>>()?.join(", ")))
        }
        Expr::Tuple(tuple) => {
            Ok(format!("({},)", tuple.items.iter().map(target).collect::<Result<Vec<_>>>()?.join(", ")))
        }
        _ => Err(fault("only a name can be assigned here")),
    }
}

/// Filters without what they are applied to: that is the block.
fn filters_alone(expression: &Expr<'_>) -> Result<String> {
    let Expr::Filter(filter) = expression else { return Err(fault("a filter stands here")) };
    check_filter(filter.name, &filter.args)?;
    let own = format!("{}({})", filter.name, arguments(&filter.args, "")?);
    match &filter.expr {
        Some(before) => Ok(format!("{} | {own}", filters_alone(before)?)),
        None => Ok(own),
    }
}

fn rewritten(expression: &Expr<'_>) -> Result<String> {
    Ok(match expression {
        Expr::Var(variable) => variable.id.to_owned(),
        Expr::Const(constant) => literal(&constant.value)?,
        Expr::Slice(slice) => {
            let part = |part: &Option<Expr<'_>>| part.as_ref().map_or(Ok(String::new()), rewritten);
            let (from, to, each) = (part(&slice.start)?, part(&slice.stop)?, part(&slice.step)?);
            let each = if each.is_empty() { each } else { format!(":{each}") };
            format!("__copy({})[{from}:{to}{each}]", rewritten(&slice.expr)?)
        }
        Expr::UnaryOp(unary) => {
            let operand = rewritten(&unary.expr)?;
            match unary.op {
                UnaryOpKind::Not => format!("(not {operand})"),
                UnaryOpKind::Neg => format!("(-{operand})"),
            }
        }
        Expr::BinOp(binary) => binary_operation(binary.op, &binary.left, &binary.right)?,
        Expr::Compare(compare) => {
            let mut text = format!("(__look({})", rewritten(&compare.expr)?);
            for next in &compare.ops {
                let operand = rewritten(&next.expr)?;
                text += &match next.op {
                    CompareOpKind::Eq => format!(" == __look({operand})"),
                    CompareOpKind::Ne => format!(" != __look({operand})"),
                    CompareOpKind::Lt => format!(" < __look({operand})"),
                    CompareOpKind::Lte => format!(" <= __look({operand})"),
                    CompareOpKind::Gt => format!(" > __look({operand})"),
                    CompareOpKind::Gte => format!(" >= __look({operand})"),
                    CompareOpKind::In => format!(" in __within({operand})"),
                    CompareOpKind::NotIn => format!(" not in __within({operand})"),
                };
            }
            text + ")"
        }
        Expr::IfExpr(condition) => {
            let (yes, test) = (rewritten(&condition.true_expr)?, rewritten(&condition.test_expr)?);
            match &condition.false_expr {
                Some(no) => format!("({yes} if {test} else {})", rewritten(no)?),
                None => format!("({yes} if {test})"),
            }
        }
        Expr::Filter(filter) => {
            check_filter(filter.name, &filter.args)?;
            let value =
                filter.expr.as_ref().ok_or_else(|| fault("a filter has nothing that it is applied to"))?;
            format!("({} | {}({}))", rewritten(value)?, filter.name, arguments(&filter.args, "")?)
        }
        Expr::Test(test) => {
            check_test(test.name)?;
            let arguments = arguments(&test.args, "")?;
            let arguments = if arguments.is_empty() { arguments } else { format!("({arguments})") };
            format!("({} is {}{arguments})", rewritten(&test.expr)?, test.name)
        }
        Expr::GetAttr(member) => format!("{}.{}", rewritten(&member.expr)?, member.name),
        Expr::GetItem(member) => {
            format!("{}[{}]", rewritten(&member.expr)?, rewritten(&member.subscript_expr)?)
        }
        Expr::Call(call) => match &call.expr {
            Expr::Var(name) => {
                if !FUNCTIONS.contains(&name.id) {
                    return Err(unknown("function", name.id, &FUNCTIONS));
                }
                format!("{}({})", name.id, arguments(&call.args, "")?)
            }
            // Of the loop: `loop.cycle`, `loop.changed`.
            called => format!("{}({})", rewritten(called)?, arguments(&call.args, "__look")?),
        },
        Expr::List(list) => {
            format!("[{}]", list.items.iter().map(rewritten).collect::<Result<Vec<_>>>()?.join(", "))
        }
        Expr::Tuple(tuple) => {
            format!("({},)", tuple.items.iter().map(rewritten).collect::<Result<Vec<_>>>()?.join(", "))
        }
        Expr::Map(map) => {
            let member = |(key, value)| Ok(format!("{}: {}", rewritten(key)?, rewritten(value)?));
            let members = map.keys.iter().zip(&map.values).map(member).collect::<Result<Vec<_>>>()?;
            format!("{{{}}}", members.join(", "))
        }
    })
}

fn binary_operation(operator: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Result<String> {
    let (one, other) = (rewritten(left)?, rewritten(right)?);
    Ok(match operator {
        BinOpKind::Eq => format!("(__look({one}) == __look({other}))"),
        BinOpKind::Ne => format!("(__look({one}) != __look({other}))"),
        BinOpKind::Lt => format!("(__look({one}) < __look({other}))"),
        BinOpKind::Lte => format!("(__look({one}) <= __look({other}))"),
        BinOpKind::Gt => format!("(__look({one}) > __look({other}))"),
        BinOpKind::Gte => format!("(__look({one}) >= __look({other}))"),
        BinOpKind::In => format!("(__look({one}) in __within({other}))"),
        BinOpKind::ScAnd => format!("({one} and {other})"),
        BinOpKind::ScOr => format!("({one} or {other})"),
        BinOpKind::Add => format!("(__copy({one}) + __copy({other}))"),
        BinOpKind::Concat => format!("(__write({one}) ~ __write({other}))"),
        BinOpKind::Mul => match (times(left), times(right)) {
            (_, Some(times)) => format!("(__times({one}, {times}) * {other})"),
            (Some(times), None) => format!("({one} * __times({other}, {times}))"),
            (None, None) => format!("(__number({one}) * __number({other}))"),
        },
        BinOpKind::Sub => format!("({one} - {other})"),
        BinOpKind::Div => format!("({one} / {other})"),
        BinOpKind::FloorDiv => format!("({one} // {other})"),
        BinOpKind::Rem => format!("(__number({one}) % {other})"),
        BinOpKind::Pow => format!("({one} ** {other})"),
    })
}

/// A number that is written where it multiplies.
fn times(expression: &Expr<'_>) -> Option<usize> {
    let Expr::Const(constant) = expression else { return None };
    constant.value.as_usize().filter(|times| *times <= TIMES_MAX)
}

fn arguments(arguments: &[CallArg<'_>], wrapped: &str) -> Result<String> {
    let wrap = |expression: &Expr<'_>| {
        let text = rewritten(expression)?;
        Ok(if wrapped.is_empty() { text } else { format!("{wrapped}({text})") })
    };
    let argument = |argument: &CallArg<'_>| match argument {
        CallArg::Pos(value) => wrap(value),
        CallArg::Kwarg(name, value) => Ok(format!("{name}={}", wrap(value)?)),
        CallArg::PosSplat(value) => Ok(format!("*__copy({})", rewritten(value)?)),
        CallArg::KwargSplat(value) => Ok(format!("**__look({})", rewritten(value)?)),
    };
    Ok(arguments.iter().map(argument).collect::<Result<Vec<_>>>()?.join(", "))
}

fn check_filter(name: &str, arguments: &[CallArg<'_>]) -> Result<()> {
    if !FILTERS.contains(&name) {
        return Err(unknown("filter", name, &FILTERS));
    }
    let text = |index: usize| match arguments.get(index) {
        Some(CallArg::Pos(Expr::Const(constant))) => constant.value.as_str().map(str::to_owned),
        _ => None,
    };
    // These take the name of another.
    match name {
        "map" => text(0)
            .filter(|name| !FILTERS.contains(&name.as_str()))
            .map_or(Ok(()), |name| Err(unknown("filter", &name, &FILTERS))),
        "select" | "reject" => text(0).map_or(Ok(()), |name| check_test(&name)),
        "selectattr" | "rejectattr" => text(1).map_or(Ok(()), |name| check_test(&name)),
        _ => Ok(()),
    }
}

fn check_test(name: &str) -> Result<()> {
    if TESTS.contains(&name) { Ok(()) } else { Err(unknown("test", name, &TESTS)) }
}

fn unknown(what: &str, name: &str, known: &'static [&'static str]) -> Fault {
    Fault { message: format!("there is no {what} `{name}` here"), known: Some((name.to_owned(), known)) }
}

fn literal(value: &Value) -> Result<String> {
    match value.kind() {
        ValueKind::None => Ok("none".to_owned()),
        ValueKind::Bool | ValueKind::Number => Ok(value.to_string()),
        ValueKind::String => Ok(quoted(value.as_str().unwrap_or_default())),
        kind => Err(fault(format!("a constant {kind} is not available here"))),
    }
}

/// As a string of the template language: what JSON escapes, it reads.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
