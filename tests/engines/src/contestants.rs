//! Who takes part, and what each must make of the payload.

use anyhow::Result;
use extism::{CompiledPlugin, Plugin};
use hookpack::json;
use rquickjs::Runtime;
use serde_json::{Value, json};

use crate::{
    engines::{self, Jaq, Script, Vrl},
    native::Native,
    payload::Case,
    sandbox::{self, Hookpack},
};

/// What is made once, as a host would.
pub struct Fixtures {
    pub native: Native,
    pub hookpack: Hookpack,
    extism: CompiledPlugin,
}

impl Fixtures {
    pub fn make() -> Result<Self> {
        Ok(Self { native: Native::load()?, hookpack: Hookpack::make()?, extism: engines::extism()? })
    }
}

pub struct Contestant<'a> {
    pub name: &'static str,
    pub makes: Makes,
    /// One payload, from its text to the text of what becomes of it.
    pub call: Box<dyn FnMut() -> String + 'a>,
}

#[derive(Clone, Copy, Debug)]
pub enum Makes {
    TheJob,
    /// The commits as three lists, not as a list of objects.
    ThreeLists,
    /// Less than the job.
    Nothing,
}

impl Makes {
    /// What a contestant must make of a payload, if anything.
    pub fn of(self, case: &Case) -> Option<Value> {
        let push: Value = serde_json::from_str(case.text()).expect("the payload is JSON");
        let mut picked = job::pick(&push);
        match self {
            Self::TheJob => Some(picked),
            Self::ThreeLists => {
                let commits = picked["commits"].as_array().cloned().unwrap_or_default();
                let list =
                    |member: &str| commits.iter().map(|commit| commit[member].clone()).collect::<Value>();
                picked["commits"] =
                    json!({"id": list("id"), "message": list("message"), "author": list("author")});
                Some(picked)
            }
            Self::Nothing => None,
        }
    }
}

pub const TYPED: &str = "native Rust, typed";
pub const VALUE: &str = "native Rust, Value";
pub const SANDBOX: &str = "mapper, typed";
pub const EXTISM_FRESH: &str = "Extism plugin, fresh";
pub const QUICKJS_REUSED: &str = "QuickJS, context reused";

pub fn all<'a>(fixtures: &'a Fixtures, case: &'a Case) -> Result<Vec<Contestant<'a>>> {
    use Makes::{Nothing, TheJob, ThreeLists};
    let (hookpack, native, text) = (&fixtures.hookpack, fixtures.native, case.text());
    let delivery = sandbox::delivery(&case.body, true);
    let (by_value, handed_over, to_empty) = (delivery.clone(), delivery.clone(), delivery.clone());
    let bare = sandbox::delivery(&case.body, false);
    let runtime = Runtime::new()?;
    let (script, jaq, mut vrl) = (Script::new(&runtime)?, Jaq::new()?, Vrl::new()?);
    let mut plugin = Plugin::new_from_compiled(&fixtures.extism)?;

    let mut contestants = Vec::new();
    let mut add = |name, makes, call: Box<dyn FnMut() -> String + 'a>| {
        contestants.push(Contestant { name, makes, call });
    };
    add(TYPED, TheJob, Box::new(move || native.typed(text)));
    add(VALUE, TheJob, Box::new(move || native.value(text)));
    add(
        "the host's own Value",
        TheJob,
        Box::new(move || {
            let push = json::parse(text.as_bytes()).expect("the payload is JSON");
            job::pick(&push).to_string()
        }),
    );
    add(SANDBOX, TheJob, Box::new(move || sandbox::event(hookpack.typed.transform_here(&delivery))));
    add("… without headers", TheJob, Box::new(move || sandbox::event(hookpack.typed.transform_here(&bare))));
    add(
        "… handed to a worker",
        TheJob,
        Box::new(move || sandbox::event(hookpack.handed_over(&hookpack.typed, &handed_over))),
    );
    add("mapper, Value", TheJob, Box::new(move || sandbox::event(hookpack.value.transform_here(&by_value))));
    add("mapper, empty", Nothing, Box::new(move || sandbox::event(hookpack.empty.transform_here(&to_empty))));
    add(
        "an instance alone",
        Nothing,
        Box::new(move || {
            hookpack.typed.instantiate_here().expect("there is a slot");
            String::new()
        }),
    );
    add("fields", ThreeLists, Box::new(move || hookpack.map_fields(text.as_bytes())));
    add(
        EXTISM_FRESH,
        TheJob,
        Box::new(move || {
            let mut plugin = Plugin::new_from_compiled(&fixtures.extism).expect("the plugin can be made");
            engines::extism_call(&mut plugin, text)
        }),
    );
    add("Extism plugin, reused", TheJob, Box::new(move || engines::extism_call(&mut plugin, text)));
    add(
        "QuickJS, fresh context",
        TheJob,
        Box::new(move || Script::new(&runtime).expect("the script is one").call(text)),
    );
    add(QUICKJS_REUSED, TheJob, Box::new(move || script.call(text)));
    add("VRL", TheJob, Box::new(move || vrl.call(text)));
    add("jaq", TheJob, Box::new(move || jaq.call(text)));
    Ok(contestants)
}
