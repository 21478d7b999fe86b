//! Finds `postgres` and `initdb` on this machine, in the version that the data needs.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Options, StartError};

const MAJOR_MIN: u32 = 14;

/// Where packages put each version into a folder of its own: a parent, the start of the folder's
/// name, the way to the programs.
const VERSIONED: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),         // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                  // postgresql.org's packages for Fedora and Red Hat
    ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
];

/// A folder with programs that were seen to run.
#[derive(Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The programs for the database in `data`: of its own `major` version when there is one, else
    /// the first found.
    pub(super) fn find(options: &Options, data: &Path, major: Option<&str>) -> Result<Self, StartError> {
        let places = match &options.binaries {
            Some(folder) => vec![folder.clone()],
            None => places(options),
        };
        let mut found = BTreeSet::new();
        let mut faults = Vec::new();
        for place in &places {
            match Self::open(place) {
                Ok(binaries) if major.is_none_or(|major| major == binaries.major.to_string()) => {
                    return Ok(binaries);
                }
                Ok(other) => {
                    found.insert(other.major);
                }
                Err(fault) => faults.push(fault),
            }
        }
        if let (Some(folder), Some(fault)) = (&options.binaries, faults.pop()) {
            let folder = folder.clone();
            return Err(StartError::UnusableBinaries { folder, fault });
        }
        let looked_in = looked_in(options);
        let Some(major) = major else {
            return Err(StartError::NoBinaries { looked_in });
        };
        let found: Vec<String> = found.iter().map(u32::to_string).collect();
        Err(StartError::OtherMajor {
            data: data.to_owned(),
            major: major.to_owned(),
            looked_in,
            found: if found.is_empty() { "none".into() } else { found.join(", ") },
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Says what is wrong with `folder` if its programs cannot be used.
    fn open(folder: &Path) -> Result<Self, String> {
        // Often a link in `PATH`; the link's target has the other programs beside it.
        let postgres = folder.join("postgres").canonicalize();
        let Some(folder) = postgres.as_deref().ok().and_then(Path::parent) else {
            return Err("it holds no `postgres`".into());
        };
        if !folder.join("initdb").is_file() {
            return Err("it holds no `initdb`".into());
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("its `postgres` cannot be run ({error})"))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        match major_of(&answer) {
            Some(major) if major >= MAJOR_MIN => Ok(Self { folder: folder.to_owned(), major }),
            Some(major) => Err(format!("its version is {major}")),
            None => Err(format!("its `postgres --version` says {:?}", answer.trim())),
        }
    }
}

/// `postgres (PostgreSQL) 17.2 (Debian 17.2-1)` is 17, `postgres (PostgreSQL) 18beta1` is 18.
fn major_of(answer: &str) -> Option<u32> {
    let version = answer.split("(PostgreSQL) ").nth(1)?;
    let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].parse().ok()
}

/// `PATH` as it stands, then each family of packages with its newest version first.
fn places(options: &Options) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = options.path.iter().flat_map(env::split_paths).collect();
    for (parent, start, rest) in VERSIONED {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        let mut versions: Vec<(u32, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version = name.strip_prefix(start)?.trim_start_matches('@');
                Some((version.parse().unwrap_or(0), entry.path().join(rest)))
            })
            .collect();
        versions.sort_by_key(|(version, _)| Reverse(*version));
        places.extend(versions.into_iter().map(|(_, place)| place));
    }
    places
}

fn looked_in(options: &Options) -> String {
    if let Some(folder) = &options.binaries {
        return folder.display().to_string();
    }
    let versioned = VERSIONED.map(|(parent, start, rest)| format!("{parent}/{start}*/{rest}"));
    format!("PATH, {}", versioned.join(", "))
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        for (answer, major) in [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 17\n", Some(17)),
            ("postgres (EnterpriseDB) 17\n", None),
            ("", None),
        ] {
            assert_eq!(major_of(answer), major, "{answer}");
        }
    }
}
