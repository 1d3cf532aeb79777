//! `proxy-wasm-host-test`: a reverse proxy around any Proxy-Wasm filter.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use proxy_wasm_host_test::serve::command::{Options, run};

/// Serves HTTP through a Proxy-Wasm filter, as Envoy would.
#[derive(Parser)]
#[command(name = "proxy-wasm-host-test", version)]
struct Arguments {
    /// The filter: a .wasm file, or its text form
    #[arg(value_name = "FILTER")]
    filter: PathBuf,
    /// A file with the plugin's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file with the VM's configuration
    #[arg(long, value_name = "FILE")]
    vm_config: Option<PathBuf>,
    /// The plugin's name
    #[arg(long, default_value = "", hide_default_value = true)]
    plugin_name: String,
    /// The plugin's root id
    #[arg(long, default_value = "", hide_default_value = true)]
    root_id: String,
    /// Only load and configure the filter, and tell what it wants of its host
    ///
    /// Exits with 0 if it loads, even if it refuses its configuration.
    #[arg(long)]
    check_load: bool,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn execute(arguments: Arguments) -> Result<(), String> {
    let read = |path: Option<PathBuf>| match path {
        Some(path) => fs::read(&path).map_err(|error| format!("{}: {error}", path.display())),
        None => Ok(Vec::new()),
    };
    let name = arguments.filter.display().to_string();
    let builder = arguments
        .options
        .builder()
        .filter(arguments.filter)
        .configuration(read(arguments.config)?)
        .vm_configuration(read(arguments.vm_config)?)
        .plugin(&arguments.plugin_name, &arguments.root_id);
    if arguments.check_load {
        println!("{name}: {}", builder.inspect().map_err(|error| told(&name, &error))?);
        return Ok(());
    }
    run(builder).map_err(|error| told(&name, &error))
}

fn told(name: &str, error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{name}: {error}: {cause}"),
        None => format!("{name}: {error}"),
    }
}
