//! How much work one value can make of a schema: references to definitions that refer twice to the next double it.
//!
//! References are resolved by the validator's own registry, so that each spelling of one (a pointer, percent-encoded or
//! not, an anchor, an `$id`, another file) leads where it leads when a value is checked. A dynamic reference leads to
//! whatever it could.

use std::collections::HashMap;

use referencing::{Draft, Registry, Resolver, uri};
use serde_json::Value;

use crate::schema::{BASE, Documents};

/// Chains of references that a person follows are short; each link costs stack.
pub(super) const HEIGHT_MAX: u32 = 256;

/// Keywords that apply their schemas to the value itself, so that their work adds up.
const TO_THE_VALUE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
/// Keywords that apply one of their schemas to a member: of these the dearest counts.
const TO_A_MEMBER: [&str; 10] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
];
/// Draft 7 and older: to the value, in the presence of a member.
const DEPENDENCIES: &str = "dependencies";

/// Simulated steps for each step that is allowed: a schema may be looked at from several places.
const WORK_FACTOR: usize = 40;

/// What is too much about a schema, and where: a JSON Pointer into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) pointer: String,
    pub(super) kind: ExcessKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExcessKind {
    /// Checking one value takes more steps than are allowed.
    Steps,
    /// A chain of references is too long.
    Height,
}

/// A schema, and what the references in it are relative to.
#[derive(Clone)]
struct Place<'r> {
    schema: &'r Value,
    resolver: Resolver<'r>,
    draft: Draft,
}

/// The schemas below one.
#[derive(Default)]
struct Below<'r> {
    /// Those that look at the same value: one of each group does.
    same_value: Vec<Vec<Place<'r>>>,
    members: Vec<Place<'r>>,
}

/// Where the excess is.
type At<'r> = (&'r Value, ExcessKind);

/// How many schemas those of the pack's file `file` reach, if checking a value by them stays within `steps_max` and a
/// sensible height: on the way from the root of a value to one of its leaves, and at each value on that way. A
/// definition that refers to itself counts once: what it costs depends on the value, and is bounded when one is checked.
pub(super) fn check(
    schema: &Value,
    file: &str,
    documents: &Documents,
    steps_max: usize,
) -> Result<usize, Excess> {
    let base = format!("{BASE}{file}");
    // What can't be resolved is told when it is compiled.
    let registry = Registry::new().retriever(documents.clone()).add(&base, schema);
    let Ok(registry) = registry.and_then(referencing::RegistryBuilder::prepare) else { return Ok(0) };
    let Ok(resolver) = uri::from_str(&base).map(|base| registry.resolver(base)) else { return Ok(0) };
    let Ok(root) = resolver.lookup("").map(Place::of) else { return Ok(0) };
    let mut costs = Costs {
        steps_max,
        dynamic: HashMap::new(),
        recursive: Vec::new(),
        totals: HashMap::new(),
        direct: HashMap::new(),
        seen: Vec::new(),
        work: 0,
    };
    costs.note_dynamic(&root);
    for uri in documents.0.keys().filter(|uri| **uri != base && registry.contains_resource(uri)) {
        if let Ok(document) = resolver.lookup(uri) {
            costs.note_dynamic(&Place::of(document));
        }
    }
    costs.check(&root).map_err(|(schema, kind)| Excess {
        pointer: pointer_to(root.schema, schema).unwrap_or_default(),
        kind,
    })
}

struct Costs<'r> {
    steps_max: usize,
    /// By the name of their `$dynamicAnchor`.
    dynamic: HashMap<&'r str, Vec<Place<'r>>>,
    /// With `$recursiveAnchor: true`.
    recursive: Vec<Place<'r>>,
    totals: HashMap<usize, Total>,
    direct: HashMap<usize, usize>,
    seen: Vec<Place<'r>>,
    work: usize,
}

#[derive(Clone, Copy, Debug)]
struct Total {
    steps: usize,
    height: u32,
}

impl<'r> Place<'r> {
    fn of(found: referencing::Resolved<'r>) -> Self {
        let (schema, resolver, draft) = found.into_inner();
        let draft = draft.detect(schema);
        Self { schema, resolver, draft }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self.schema).addr()
    }

    /// A schema within this one.
    fn within(&self, schema: &'r Value) -> Self {
        let draft = self.draft.detect(schema);
        let resolver = self.resolver.in_subresource(draft.create_resource_ref(schema));
        Self { schema, resolver: resolver.unwrap_or_else(|_| self.resolver.clone()), draft }
    }
}

impl<'r> Costs<'r> {
    fn note_dynamic(&mut self, place: &Place<'r>) {
        if let Some(name) = place.schema.get("$dynamicAnchor").and_then(Value::as_str) {
            self.dynamic.entry(name).or_default().push(place.clone());
        }
        if place.schema.get("$recursiveAnchor").and_then(Value::as_bool) == Some(true) {
            self.recursive.push(place.clone());
        }
        for schema in place.draft.subresources_of(place.schema) {
            self.note_dynamic(&place.within(schema));
        }
    }

    fn check(&mut self, root: &Place<'r>) -> Result<usize, At<'r>> {
        let total = self.total(root, 0);
        if total.height > HEIGHT_MAX {
            return Err((root.schema, ExcessKind::Height));
        }
        if total.steps > self.steps_max {
            return Err((root.schema, ExcessKind::Steps));
        }
        let seen = std::mem::take(&mut self.seen);
        for place in &seen {
            self.direct(place, &mut Vec::new())?;
        }
        Ok(seen.len())
    }

    /// From the root of a value down to one of its leaves.
    fn total(&mut self, place: &Place<'r>, depth: u32) -> Total {
        let known = self.totals.get(&place.address());
        if let Some(total) = known {
            return *total;
        }
        if depth > HEIGHT_MAX {
            return Total { steps: 1, height: HEIGHT_MAX + 1 };
        }
        let mut total = Total { steps: 1, height: 1 };
        self.totals.insert(place.address(), total);
        self.seen.push(place.clone());
        let Below { same_value, members } = self.below(place);
        for group in same_value {
            total.steps = total.steps.saturating_add(self.dearest(&group, depth, &mut total.height));
        }
        total.steps = total.steps.saturating_add(self.dearest(&members, depth, &mut total.height));
        self.totals.insert(place.address(), total);
        total
    }

    fn dearest(&mut self, places: &[Place<'r>], depth: u32, height: &mut u32) -> usize {
        let mut steps = 0;
        for place in places {
            let total = self.total(place, depth + 1);
            steps = steps.max(total.steps);
            *height = (*height).max(total.height.saturating_add(1));
        }
        steps
    }

    /// At one value, as the validator goes: what it is at already, further up, it leaves out. `path` are the addresses
    /// from the first schema to this one. Gives the steps, and how far up the path they depend on.
    fn direct(&mut self, place: &Place<'r>, path: &mut Vec<usize>) -> Result<(usize, usize), At<'r>> {
        let (address, index) = (place.address(), path.len());
        if let Some(steps) = self.direct.get(&address) {
            return Ok((*steps, index));
        }
        if let Some(above) = path.iter().position(|above| *above == address) {
            return Ok((1, above));
        }
        self.work += 1;
        if self.work > self.steps_max.saturating_mul(WORK_FACTOR) {
            return Err((place.schema, ExcessKind::Steps));
        }
        path.push(address);
        let (mut steps, mut lowest) = (1_usize, index);
        for group in self.below(place).same_value {
            let mut dearest = 0;
            for place in group {
                let (steps, low) = self.direct(&place, path)?;
                dearest = dearest.max(steps);
                lowest = lowest.min(low);
            }
            steps = steps.saturating_add(dearest);
        }
        path.pop();
        if steps > self.steps_max {
            return Err((place.schema, ExcessKind::Steps));
        }
        if lowest == index {
            self.direct.insert(address, steps);
        }
        Ok((steps, lowest))
    }

    fn below(&self, place: &Place<'r>) -> Below<'r> {
        let mut below = Below::default();
        let Value::Object(keywords) = place.schema else { return below };
        for (keyword, value) in keywords {
            let keyword = keyword.as_str();
            let within = |schemas: Vec<&'r Value>| schemas.into_iter().map(|schema| place.within(schema));
            if TO_A_MEMBER.contains(&keyword) {
                below.members.extend(within(schemas(keyword, value)));
            } else if TO_THE_VALUE.contains(&keyword) || keyword == DEPENDENCIES {
                below.same_value.extend(within(schemas(keyword, value)).map(|place| vec![place]));
            } else if let Some(targets) = self.targets(keyword, value, place) {
                below.same_value.push(targets);
            }
        }
        below
    }

    /// Where a reference may lead; `None` for another keyword.
    fn targets(&self, keyword: &str, value: &Value, place: &Place<'r>) -> Option<Vec<Place<'r>>> {
        let further = match (keyword, value) {
            ("$ref", Value::String(_)) => &[][..],
            ("$dynamicRef", Value::String(reference)) => {
                let name = reference.rsplit_once('#').map_or("", |(_, name)| name);
                self.dynamic.get(name).map_or(&[][..], Vec::as_slice)
            }
            ("$recursiveRef", Value::String(_)) => &self.recursive,
            _ => return None,
        };
        let reference = value.as_str().unwrap_or_default();
        let first = place.resolver.lookup(reference).ok().map(Place::of);
        let all = first.into_iter().chain(further.iter().cloned());
        // A schema that refers to itself alone says nothing.
        Some(all.filter(|target| target.address() != place.address()).collect())
    }
}

/// The schemas under a keyword: itself, a list of them, or named ones.
fn schemas<'a>(keyword: &str, value: &'a Value) -> Vec<&'a Value> {
    let named = ["properties", "patternProperties", "dependentSchemas", DEPENDENCIES].contains(&keyword);
    match value {
        Value::Array(schemas) => schemas.iter().collect(),
        Value::Object(schemas) if named => schemas.values().filter(|schema| !schema.is_array()).collect(),
        one => vec![one],
    }
}

/// Where in a document a part of it stands.
fn pointer_to(document: &Value, part: &Value) -> Option<String> {
    if std::ptr::eq(document, part) {
        return Some(String::new());
    }
    let in_member = |(name, value): (&String, &Value)| {
        let name = name.replace('~', "~0").replace('/', "~1");
        Some(format!("/{name}{}", pointer_to(value, part)?))
    };
    match document {
        Value::Object(members) => members.iter().find_map(in_member),
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| Some(format!("/{index}{}", pointer_to(item, part)?)))
        }
        _ => None,
    }
}
