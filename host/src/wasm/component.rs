//! What a file says that it is, before anybody compiles it: a component, what it imports, which tool made it.

use wasmparser::{ComponentExternalKind, Encoding, KnownCustom, Parser, Payload};

/// Read off a component's bytes in one pass, without running or compiling any of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// The names that it wants from outside.
    pub imports: Vec<String>,
    /// The version of `hookpack:mapper/mapper` that it exports.
    pub interface: Option<String>,
    /// Every other interface of `hookpack:` that it exports.
    pub unknown: Vec<String>,
    /// Languages and tools, as its makers wrote them down.
    pub producers: Vec<String>,
}

/// Why a file is no mapper: what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub message: String,
    pub help: Option<String>,
}

impl Refused {
    pub(super) fn new(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// The interface that mappers export, without its version.
const INTERFACE: &str = "hookpack:mapper/mapper@";
/// Names told in a message; a component from outside may have thousands.
const NAMES_TOLD: usize = 5;

impl Anatomy {
    pub fn is_core_module(bytes: &[u8]) -> bool {
        Parser::is_core_wasm(bytes)
    }

    /// Reads a component's outermost layer; whether all of it is sound, compiling will tell.
    pub fn read(bytes: &[u8]) -> Result<Self, Refused> {
        if !bytes.starts_with(b"\0asm") {
            let help = "a mapper is a WebAssembly component: a binary `.wasm` file, built by `hookpack pack build` or your language's tools";
            return Err(Refused::new("this is not WebAssembly", help.to_owned()));
        }
        if Self::is_core_module(bytes) {
            let help = "build it with `hookpack pack build`, or wrap it with `wasm-tools component new`";
            return Err(Refused::new("this is a core module, not a component", help.to_owned()));
        }
        let mut anatomy = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| unreadable(&error))?;
            match payload {
                Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        let import = import.map_err(|error| unreadable(&error))?;
                        anatomy.imports.push(import.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        let export = export.map_err(|error| unreadable(&error))?;
                        anatomy.export(export.name.name, export.kind);
                    }
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Producers(fields) = section.as_known() {
                        for field in fields.into_iter().flatten() {
                            for value in field.values.into_iter().flatten() {
                                anatomy.produced(value.name, value.version);
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        anatomy.fit()?;
        Ok(anatomy)
    }

    fn export(&mut self, name: &str, kind: ComponentExternalKind) {
        match name.strip_prefix(INTERFACE) {
            Some(version) if kind == ComponentExternalKind::Instance => {
                self.interface = Some(version.to_owned());
            }
            _ if name.starts_with("hookpack:") => self.unknown.push(name.to_owned()),
            _ => {}
        }
    }

    fn produced(&mut self, name: &str, version: &str) {
        let told = format!("{name} {version}").trim().to_owned();
        if self.producers.len() < 20 && told.len() < 100 && !self.producers.contains(&told) {
            self.producers.push(told);
        }
    }

    /// Whether it asks for nothing and offers what the host will call.
    fn fit(&self) -> Result<(), Refused> {
        if !self.imports.is_empty() {
            let names = told(&self.imports);
            return Err(Refused::new(
                format!("this component imports {names}; a mapper imports nothing"),
                self.remedy(),
            ));
        }
        match &self.interface {
            Some(version) if speaks(version) => Ok(()),
            Some(version) => Err(Refused::new(
                format!("this component speaks hookpack:mapper {version}, this host speaks 1.0.0"),
                "build it against the WIT of this host's `sdk/wit`, or upgrade the host".to_owned(),
            )),
            None => {
                let instead = if self.unknown.is_empty() {
                    String::new()
                } else {
                    format!(", it has {}", told(&self.unknown))
                };
                Err(Refused::new(
                    format!("this component does not export `{INTERFACE}1.0.0`{instead}"),
                    "build it for the world `pack` of the WIT in `sdk/wit`".to_owned(),
                ))
            }
        }
    }

    /// The flag that takes the imports away, for the tools that we know.
    fn remedy(&self) -> String {
        let made_by = |tool: &str| self.producers.iter().any(|told| told.to_lowercase().contains(tool));
        let all_wasi = self.imports.iter().all(|name| name.starts_with("wasi:"));
        if made_by("componentize-py") {
            "build it with `componentize-py … componentize --stub-wasi`".to_owned()
        } else if made_by("componentize-qjs") || made_by("quickjs") {
            "build it with `componentize-qjs … --sync --stub-wasi`".to_owned()
        } else if made_by("componentizejs")
            || made_by("componentize-js")
            || made_by("jco")
            || made_by("starlingmonkey")
        {
            "build it with every feature off: `jco componentize … --disable all`".to_owned()
        } else if made_by("rust") && all_wasi {
            "build it for `wasm32-unknown-unknown` instead of a WASI target: `hookpack pack build` does"
                .to_owned()
        } else if all_wasi {
            "there is no WASI here: build it without (Python: `--stub-wasi`; JavaScript: `--sync --stub-wasi` or `--disable all`; Rust, C: a target without WASI)".to_owned()
        } else {
            "what a mapper needs comes with the delivery and `settings`: take these imports away".to_owned()
        }
    }
}

/// The version is a promise: mappers of any 1.x run on every host that speaks 1.
fn speaks(version: &str) -> bool {
    semver::Version::parse(version).is_ok_and(|version| version.major == 1)
}

fn unreadable(error: &wasmparser::BinaryReaderError) -> Refused {
    Refused::new(
        format!("this component can't be read: {} (at byte {})", error.message(), error.offset()),
        "the file is damaged or cut off: build it again".to_owned(),
    )
}

fn told(names: &[String]) -> String {
    let shown =
        names.iter().take(NAMES_TOLD).map(|name| format!("`{}`", name.chars().take(100).collect::<String>()));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_TOLD {
        text += &format!(" and {} more", names.len() - NAMES_TOLD);
    }
    text
}
