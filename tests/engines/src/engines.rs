//! The other engines, each as its own documentation has it used.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, anyhow};
use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};
use jaq_core::{Ctx, Vars, data::JustLut, unwrap_valr};
use jaq_json::Val;
use rquickjs::{Context, Function, Runtime};
use vrl::compiler::{Program, TargetValue, TimeZone, runtime::Runtime as VrlRuntime};

const PLUGIN: &str = "plugin/target/wasm32-unknown-unknown/release/plugin.wasm";

pub fn extism() -> Result<CompiledPlugin> {
    let bytes = fs::read(Path::new(PLUGIN)).with_context(|| format!("{PLUGIN}: `run` builds it"))?;
    let manifest = Manifest::new([Wasm::data(bytes)]);
    PluginBuilder::new(manifest).with_wasi(false).with_cache_disabled().compile()
}

pub fn extism_call(plugin: &mut Plugin, payload: &str) -> String {
    plugin.call("pick", payload).expect("the plugin does its job")
}

const JAVASCRIPT: &str = r"
(text) => {
  const push = JSON.parse(text);
  return JSON.stringify({
    ref: push.ref,
    before: push.before,
    after: push.after,
    compare: push.compare,
    forced: push.forced,
    repository_id: push.repository.id,
    repository: push.repository.full_name,
    default_branch: push.repository.default_branch,
    pusher: push.pusher.name,
    sender: push.sender.login,
    sender_id: push.sender.id,
    head: push.head_commit.id,
    head_at: push.head_commit.timestamp,
    commits: push.commits.map(({id, message, author}) => ({id, message, author: author.name})),
  });
}";

/// A context with the function in it, ready to be called.
pub struct Script {
    // Goes first: it lives in the other.
    function: rquickjs::Persistent<Function<'static>>,
    context: Context,
}

impl Script {
    pub fn new(runtime: &Runtime) -> Result<Self> {
        let context = Context::full(runtime)?;
        let function = context.with(|js| {
            let function: Function = js.eval(JAVASCRIPT)?;
            rquickjs::Result::Ok(rquickjs::Persistent::save(&js, function))
        })?;
        Ok(Self { function, context })
    }

    pub fn call(&self, payload: &str) -> String {
        let called = self.context.with(|js| self.function.clone().restore(&js)?.call((payload,)));
        called.expect("the script does its job")
    }
}

const VRL: &str = r"
push = object!(parse_json!(string!(.)))
encode_json({
  'ref': push.ref,
  'before': push.before,
  'after': push.after,
  'compare': push.compare,
  'forced': push.forced,
  'repository_id': push.repository.id,
  'repository': push.repository.full_name,
  'default_branch': push.repository.default_branch,
  'pusher': push.pusher.name,
  'sender': push.sender.login,
  'sender_id': push.sender.id,
  'head': push.head_commit.id,
  'head_at': push.head_commit.timestamp,
  'commits': map_values(array!(push.commits)) -> |commit| {
    {'id': commit.id, 'message': commit.message, 'author': commit.author.name}
  }
})";

pub struct Vrl {
    program: Program,
    runtime: VrlRuntime,
}

impl Vrl {
    pub fn new() -> Result<Self> {
        let source = VRL.replace('\'', "\"");
        let compiled = vrl::compiler::compile(&source, &vrl::stdlib::all()).map_err(|faults| {
            anyhow!(
                "VRL: {}",
                faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; ")
            )
        })?;
        Ok(Self { program: compiled.program, runtime: VrlRuntime::default() })
    }

    pub fn call(&mut self, payload: &str) -> String {
        let mut target = TargetValue {
            value: payload.into(),
            metadata: vrl::value::Value::Object(std::collections::BTreeMap::default()),
            secrets: vrl::value::Secrets::default(),
        };
        self.runtime.clear();
        let made = self.runtime.resolve(&mut target, &self.program, &TimeZone::default());
        match made.expect("the program does its job") {
            vrl::value::Value::String(text) => text.into(),
            other => panic!("the program made {other:?}"),
        }
    }
}

const JQ: &str = r"{
  ref, before, after, compare, forced,
  repository_id: .repository.id,
  repository: .repository.full_name,
  default_branch: .repository.default_branch,
  pusher: .pusher.name,
  sender: .sender.login,
  sender_id: .sender.id,
  head: .head_commit.id,
  head_at: .head_commit.timestamp,
  commits: [.commits[] | {id, message, author: .author.name}],
}";

pub struct Jaq {
    filter: jaq_core::compile::Filter<jaq_core::Native<JustLut<Val>>>,
}

impl Jaq {
    pub fn new() -> Result<Self> {
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = jaq_core::load::Arena::default();
        let modules = jaq_core::load::Loader::new(definitions)
            .load(&arena, jaq_core::load::File { code: JQ, path: () })
            .map_err(|faults| anyhow!("jq: {faults:?}"))?;
        let compiler = jaq_core::Compiler::default().with_funs(functions);
        let filter = compiler.compile(modules).map_err(|faults| anyhow!("jq: {faults:?}"))?;
        Ok(Self { filter })
    }

    pub fn call(&self, payload: &str) -> String {
        let push = jaq_json::read::parse_single(payload.as_bytes()).expect("the payload is JSON");
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let mut made = self.filter.id.run((context, push)).map(unwrap_valr);
        made.next().expect("one value").expect("the filter does its job").to_string()
    }
}
