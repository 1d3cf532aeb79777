//! Files with rules, and the environment that they will meet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use routecache_config::{Loaded, load_yaml};

use crate::failure::Failure;

/// Variables as the filter will see them.
#[derive(Args)]
pub struct Environment {
    /// A variable that the filter will find, such as CACHE_PREFIX=shop; it wins over the rules
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub variables: Vec<(String, String)>,
}

/// `KEY=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write KEY=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Environment {
    /// A variable. Given twice, the last one counts.
    pub fn get(&self, asked: &str) -> Option<String> {
        self.variables.iter().rfind(|(name, _)| name == asked).map(|(_, value)| value.clone())
    }
}

/// A file's name in messages.
pub fn shown_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.to_string_lossy().into_owned() }
}

/// Reads and checks a file; `-` is standard input.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Failure> {
    let text = if path == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(path) };
    let name = shown_name(path);
    let text = text.map_err(|error| Failure::Unread(name.clone().into(), error))?;
    load_yaml(&text, &name, &|name| environment.get(name)).map_err(Failure::Mistakes)
}

/// Writes to a file, or to standard output for `-`.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if path != Path::new("-") {
        return fs::write(path, content).map_err(|error| Failure::Unwritten(path.to_owned(), error));
    }
    match io::Write::write_all(&mut io::stdout().lock(), content) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::Unwritten(PathBuf::from("standard output"), error)),
    }
}
