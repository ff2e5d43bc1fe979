//! `outstation plugin list`: what the plugin folders hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::table::table;
use super::{block_on, compiling, configuration, fail, host, host_options, scratch, signature_words};
use crate::cli::page::bytes;
use crate::cli::{result, say};
use crate::config::{Limits, Signatures};
use crate::os::places;
use crate::plugin::{Host, SourceSpec};

/// For asking a plugin what it is, which is a moment's work.
const LIMITS: Limits = Limits { memory: 256 << 20, time: std::time::Duration::from_secs(2) };

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// For programs
    #[arg(long)]
    json: bool,
}

/// A file in a plugin folder.
struct Entry {
    name: String,
    file: PathBuf,
    bytes: u64,
    /// Name and version that it gives itself, and who made it.
    about: Option<(String, String, String)>,
    signature: Option<(String, Option<String>)>,
    /// Before it was looked at.
    compiled: bool,
    sources: Vec<String>,
    /// The file that is taken in its place.
    shadowed_by: Option<PathBuf>,
    imports: Vec<String>,
    problem: Option<String>,
}

/// Does the command.
pub(super) fn list(file: &Path, options: &Options) -> ExitCode {
    let loaded = configuration(file);
    let environment = places::environment(&places::absolute_file(file));
    let dirs = loaded.sound.plugin_dirs.clone().unwrap_or(environment.default_plugin_dirs);
    let looked = scratch().and_then(|scratch| {
        let mut how = host_options(loaded.settings.as_ref(), &scratch.0);
        // What is not signed is shown as such, and as a problem where that is one; it is asked all the same.
        let wanted = std::mem::replace(&mut how.trust.mode, Signatures::Off);
        let host = host(how)?;
        block_on(entries(&host, &dirs, &loaded.sound.plugins, wanted))
    });
    let (entries, unread) = match looked {
        Ok(looked) => looked,
        Err(why) => return fail(&why),
    };
    for why in &unread {
        say(&format!("outstation: {why}"));
    }
    let missing: Vec<_> = loaded
        .sound
        .plugins
        .iter()
        .filter(|(_, plugin)| !entries.iter().any(|entry| entry.name == **plugin))
        .map(|(source, plugin)| (source.clone(), plugin.clone()))
        .collect();
    let text = if options.json { document(&dirs, &entries, &missing) } else { page(&dirs, &entries, &missing) };
    result(&text);
    if unread.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn entries(
    host: &Host,
    dirs: &[PathBuf],
    used: &BTreeMap<String, String>,
    wanted: Signatures,
) -> Result<(Vec<Entry>, Vec<String>), String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut unread = Vec::new();
    for dir in dirs {
        let files = match places::plugins_in(dir) {
            Ok(files) => files,
            Err(error) => {
                unread.push(format!("cannot read {}: {error}", dir.display()));
                continue;
            }
        };
        for file in files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let shadowed_by = entries.iter().find(|entry| entry.name == name).map(|entry| entry.file.clone());
            let mut entry = look(host, name, file, wanted).await;
            if shadowed_by.is_none() {
                let takes = |(source, plugin): (&String, &String)| (*plugin == entry.name).then(|| source.clone());
                entry.sources = used.iter().filter_map(takes).collect();
            }
            entry.shadowed_by = shadowed_by;
            entries.push(entry);
        }
    }
    Ok((entries, unread))
}

async fn look(host: &Host, name: String, file: PathBuf, wanted: Signatures) -> Entry {
    let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    let mut entry = Entry {
        name,
        file,
        bytes,
        about: None,
        signature: None,
        compiled: false,
        sources: Vec::new(),
        shadowed_by: None,
        imports: Vec::new(),
        problem: None,
    };
    let looks = match host.look(&entry.file).await {
        Ok(looks) => looks,
        Err(error) => {
            entry.problem = Some(without_file(&error.to_string(), &entry.file));
            return entry;
        }
    };
    let (word, reason) = signature_words(&looks.signature);
    if wanted == Signatures::Require && word != "good" {
        let why = reason.unwrap_or("there is no signature beside it");
        entry.problem = Some(format!("the agent refuses it: plugin_signatures = \"require\", and {why}"));
    }
    entry.signature = Some((word.to_owned(), reason.map(str::to_owned)));
    entry.compiled = looks.compiled;
    if !looks.compiled {
        compiling(&entry.file);
    }
    match host.load(&entry.file).await {
        Ok(plugin) => {
            entry.imports = plugin.imports().to_vec();
            match plugin.describe(&spec(&entry.name)).await {
                Ok(about) => entry.about = Some((about.name, about.version, about.vendor)),
                Err(failure) => entry.problem = Some(format!("asked what it is, it {failure}")),
            }
        }
        Err(error) => entry.problem = Some(without_file(&error.to_string(), &entry.file)),
    }
    entry
}

/// A source of which nothing is known, to ask a plugin what it is.
pub(super) fn spec(name: &str) -> SourceSpec {
    SourceSpec::unknown(name, LIMITS)
}

/// Errors name the file, which stands beside them here.
fn without_file(error: &str, file: &Path) -> String {
    error.strip_prefix(&format!("{}: ", file.display())).unwrap_or(error).to_owned()
}

fn document(dirs: &[PathBuf], entries: &[Entry], missing: &[(String, String)]) -> String {
    let plugins: Vec<_> = entries
        .iter()
        .map(|entry| {
            let (title, version, vendor) = entry
                .about
                .clone()
                .map_or((None, None, None), |(title, version, vendor)| (Some(title), Some(version), Some(vendor)));
            let (signature, reason) = entry.signature.clone().map_or((None, None), |(word, why)| (Some(word), why));
            json!({
                "name": entry.name,
                "file": entry.file,
                "bytes": entry.bytes,
                "title": title,
                "version": version,
                "vendor": vendor,
                "signature": signature,
                "signature_problem": reason,
                "compiled": entry.compiled,
                "imports": entry.imports,
                "sources": entry.sources,
                "shadowed_by": entry.shadowed_by,
                "problem": entry.problem,
            })
        })
        .collect();
    let missing: Vec<_> =
        missing.iter().map(|(source, plugin)| json!({ "source": source, "plugin": plugin })).collect();
    format!("{:#}\n", json!({ "folders": dirs, "plugins": plugins, "missing": missing }))
}

fn page(dirs: &[PathBuf], entries: &[Entry], missing: &[(String, String)]) -> String {
    let mut out = String::new();
    for dir in dirs {
        out.push_str(&format!("{}\n", dir.display()));
        let here: Vec<_> = entries.iter().filter(|entry| entry.file.parent() == Some(dir)).collect();
        if here.is_empty() {
            out.push_str("  no plugins\n");
            continue;
        }
        let rows: Vec<_> = here.iter().map(|entry| row(entry)).collect();
        let lines = table(&rows);
        for (line, entry) in lines.lines().zip(&here) {
            out.push_str(&format!("  {line}\n"));
            if let Some(problem) = &entry.problem {
                out.push_str(&format!("    problem: {problem}\n"));
            }
        }
    }
    for (source, plugin) in missing {
        out.push_str(&format!("missing: {plugin}.wasm, which source {source} names\n"));
    }
    out
}

fn row(entry: &Entry) -> Vec<String> {
    let version = entry.about.as_ref().map_or("?", |(_, version, _)| version);
    let signature = match &entry.signature {
        Some((word, _)) if word == "good" => "signed",
        Some((word, _)) if word == "bad" => "wrongly signed",
        _ => "not signed",
    };
    let used = match (&entry.shadowed_by, entry.sources.as_slice()) {
        (Some(by), _) => format!("not used: {} comes first", by.display()),
        (None, []) => "used by no source".to_owned(),
        (None, sources) => format!("used by {}", sources.join(", ")),
    };
    let compiled = if entry.compiled { "compiled" } else { "not compiled yet" };
    vec![entry.name.clone(), version.to_owned(), bytes(entry.bytes), signature.into(), compiled.into(), used]
}
