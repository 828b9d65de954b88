//! The compile time of annotated functions, compared with the same functions without attributes.

mod program;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compile::program::{ACTIVITIES, Kind, MODULES, ONE_ACTIVITY, ORCHESTRATIONS};

/// The number of functions of a program.
pub const FUNCTIONS: usize = MODULES * (ORCHESTRATIONS + ACTIVITIES);

/// A build that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// `cargo check`, of the whole package.
    Check,
    /// A debug build of the whole package.
    Debug,
    /// A debug build after the body of one activity has changed.
    OneBody,
    /// A release build of the whole package.
    Release,
}

impl Build {
    /// All builds, in the order of the measurement: a change follows a build that it can reuse.
    pub const ALL: [Self; 4] = [Self::Check, Self::Debug, Self::OneBody, Self::Release];

    /// Returns its description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Debug => "debug",
            Self::OneBody => "debug, one body changed",
            Self::Release => "release",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Check => &["check"],
            Self::Debug | Self::OneBody => &["build"],
            Self::Release => &["build", "--release"],
        }
    }
}

/// Two programs, one with attributes and one without, in folders whose dependencies are built.
pub struct Programs {
    folder: PathBuf,
    version: usize,
}

/// The processor times of a build of both programs, in seconds, including the linker.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// With attributes.
    pub durable: f64,
    /// Without.
    pub plain: f64,
}

impl Programs {
    /// Writes the programs into the folder and builds their dependencies. `library` is the folder of the library.
    pub fn write(folder: &Path, library: &Path, builds: &[Build]) -> duroxide::Result<Self> {
        let library = library.canonicalize()?;
        for kind in [Kind::Durable, Kind::Plain] {
            let package = folder.join(kind.name());
            std::fs::create_dir_all(package.join("src"))?;
            std::fs::write(package.join("Cargo.toml"), program::manifest(kind, &library.to_string_lossy()))?;
            std::fs::write(package.join("src/main.rs"), program::main(kind))?;
            std::fs::write(package.join("one.rs"), ONE_ACTIVITY)?;
            for module in 0..MODULES {
                std::fs::write(package.join(format!("src/m{module}.rs")), program::module(kind, module, 0))?;
            }
            std::fs::copy(library.join("../Cargo.lock"), package.join("Cargo.lock"))?;
        }
        let programs = Self { folder: folder.to_owned(), version: 0 };
        for build in builds {
            for kind in [Kind::Durable, Kind::Plain] {
                programs.cargo(kind, build.arguments())?;
            }
        }
        Ok(programs)
    }

    /// Measures one build of each program.
    pub fn measure(&mut self, build: Build) -> duroxide::Result<Times> {
        self.version += 1;
        Ok(Times { durable: self.seconds(Kind::Durable, build)?, plain: self.seconds(Kind::Plain, build)? })
    }

    fn seconds(&self, kind: Kind, build: Build) -> duroxide::Result<f64> {
        if build == Build::OneBody {
            let source = self.folder.join(kind.name()).join("src/m0.rs");
            std::fs::write(source, program::module(kind, 0, self.version))?;
        } else {
            self.cargo(kind, &["clean", "--package", kind.name()])?;
            self.cargo(kind, &["clean", "--package", kind.name(), "--release"])?;
        }
        let before = children_seconds();
        self.cargo(kind, build.arguments())?;
        Ok(children_seconds() - before)
    }

    /// Returns the number of lines of an activity with three inputs and a state, expanded.
    pub fn lines_of_one_activity(&self) -> duroxide::Result<usize> {
        let manifest = self.folder.join("durable/Cargo.toml");
        let text = std::fs::read_to_string(&manifest)?;
        std::fs::write(&manifest, text.clone() + "\n[lib]\nname = \"one\"\npath = \"one.rs\"\n")?;
        let expanded = self.cargo(Kind::Durable, &["rustc", "--lib", "--", "-Zunpretty=expanded"]);
        std::fs::write(&manifest, text)?;
        Ok(expanded?.lines().count())
    }

    fn cargo(&self, kind: Kind, arguments: &[&str]) -> duroxide::Result<String> {
        let mut cargo = Command::new("cargo");
        // The option that shows expansions is unstable.
        cargo
            .arg("--quiet")
            .args(arguments)
            .env("RUSTC_BOOTSTRAP", "one")
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        let output = cargo.current_dir(self.folder.join(kind.name())).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(duroxide::Error::new(format!("cargo {} failed", arguments.join(" "))));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Returns the processor time of all ended child processes and their children, in seconds.
fn children_seconds() -> f64 {
    // Fields 16 and 17, in hundredths of a second; the second field is in parentheses and may have spaces.
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Returns the medians of both programs.
pub fn medians(times: &[Times]) -> Times {
    Times { durable: median(times.iter().map(|one| one.durable)), plain: median(times.iter().map(|one| one.plain)) }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
