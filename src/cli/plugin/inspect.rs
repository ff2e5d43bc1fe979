//! `outstation plugin inspect FILE`: what a component is, wants and offers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::list::spec;
use super::table::table;
use super::{block_on, compiling, configuration, fail, host, host_options, scratch, signature_words};
use crate::cli::page::bytes;
use crate::cli::result;
use crate::config::{Settings, Signatures};
use crate::plugin::{About, Grants, Looks};
use crate::reading::{Kind, Point};

/// The interface that a plugin exports to take commands, and the one to hand its state over.
const COMMANDS: &str = "outstation:plugin/commands";
const HANDOVER: &str = "outstation:plugin/handover";

#[derive(clap::Args)]
pub(in crate::cli) struct Options {
    /// The component, a .wasm file
    file: PathBuf,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Found {
    bytes: u64,
    looks: Looks,
    imports: Vec<String>,
    exports: Vec<String>,
    /// The lines that grant it what it imports.
    grants: Vec<String>,
    about: Result<About, String>,
}

/// Does the command.
pub(super) fn inspect(config: &Path, options: &Options) -> ExitCode {
    // Only its keys are of use here, and its absence is no matter.
    let settings = if config.exists() { configuration(config).settings } else { None };
    match block_on(find(settings.as_ref(), &options.file)) {
        Ok(found) if options.json => result(&document(&options.file, &found)),
        Ok(found) => result(&page(&options.file, &found)),
        Err(why) => fail(&why),
    }
}

async fn find(settings: Option<&Settings>, file: &Path) -> Result<Found, String> {
    let scratch = scratch()?;
    let mut how = host_options(settings, &scratch.0);
    how.trust.mode = Signatures::Off;
    let host = host(how)?;
    let looks = host.look(file).await.map_err(|error| error.to_string())?;
    if !looks.compiled {
        compiling(file);
    }
    let plugin = host.load(file).await.map_err(|error| error.to_string())?;
    let missing = plugin.missing_grants(&Grants::default());
    Ok(Found {
        bytes: std::fs::metadata(file).map_or(0, |metadata| metadata.len()),
        looks,
        imports: plugin.imports().to_vec(),
        exports: plugin.exports().to_vec(),
        grants: missing.iter().map(|missing| missing.line.to_owned()).collect(),
        about: plugin.describe(&spec("inspect")).await.map_err(|failure| failure.to_string()),
    })
}

fn exports(found: &Found, interface: &str) -> bool {
    found.exports.iter().any(|export| export.split('@').next() == Some(interface))
}

fn document(file: &Path, found: &Found) -> String {
    let (signature, reason) = signature_words(&found.looks.signature);
    let about = found.about.as_ref().ok();
    let points: Vec<_> = about.into_iter().flat_map(|about| about.points.iter()).map(|one| point(&one)).collect();
    let document = json!({
        "file": file,
        "bytes": found.bytes,
        "name": about.map(|about| &about.name),
        "version": about.map(|about| &about.version),
        "vendor": about.map(|about| &about.vendor),
        "points": points,
        "reasons": about.map(|about| &about.reasons),
        "describe_problem": found.about.as_ref().err(),
        "signature": signature,
        "signature_problem": reason,
        "imports": found.imports,
        "exports": found.exports,
        "takes_commands": exports(found, COMMANDS),
        "hands_over": exports(found, HANDOVER),
        "grants": found.grants,
    });
    format!("{document:#}\n")
}

fn point(point: &Point) -> serde_json::Value {
    json!({
        "id": point.id,
        "title": point.title,
        "kind": point.kind,
        "class": point.class,
        "unit": point.unit,
        "range": point.range.map(|(low, high)| [low, high]),
    })
}

fn page(file: &Path, found: &Found) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let title = match &found.about {
        Ok(about) if about.vendor.is_empty() => format!("{} {}", about.name, about.version),
        Ok(about) => format!("{} {} by {}", about.name, about.version, about.vendor),
        Err(why) => format!("asked what it is, it {why}"),
    };
    let signature = match signature_words(&found.looks.signature) {
        ("good", _) => "good, by one of agent.plugin_keys".to_owned(),
        ("none", _) => "none".to_owned(),
        (_, reason) => format!("not good: {}", reason.unwrap_or_default()),
    };
    let yes = |word: bool| if word { "yes" } else { "no" };
    let mut rows = vec![
        vec!["plugin".to_owned(), title],
        vec!["file".to_owned(), format!("{}, {}", file.display(), bytes(found.bytes))],
        vec!["signature".to_owned(), signature],
        vec!["commands".to_owned(), yes(exports(found, COMMANDS)).to_owned()],
        vec!["handover".to_owned(), yes(exports(found, HANDOVER)).to_owned()],
    ];
    for (word, names) in [("imports", &found.imports), ("exports", &found.exports)] {
        for (number, interface) in names.iter().enumerate() {
            rows.push(vec![if number == 0 { word.to_owned() } else { String::new() }, interface.clone()]);
        }
    }
    let points = match &found.about {
        Ok(about) if !about.points.is_empty() => {
            let rows: Vec<_> = about.points.iter().map(|point| point_row(&point)).collect();
            format!("\npoints, without a configuration and without devices:\n{}", table(&rows))
        }
        _ => "\npoints: none without a configuration or a device; `outstation plugin test` shows them\n".to_owned(),
    };
    let grants: String = found.grants.iter().map(|line| format!("{line}\n")).collect();
    let source = format!("\nto run it:\n[source.{name}]\nplugin = \"{name}\"\nevery = \"10s\"\n{grants}");
    format!("{}{points}{source}", table(&rows))
}

fn point_row(point: &Point) -> Vec<String> {
    let range = point.range.map(|(low, high)| format!("{low} to {high}")).unwrap_or_default();
    let unit = if point.unit.is_empty() && point.kind == Kind::Real { "-" } else { &point.unit };
    let words = [&point.id, &word(point.kind), &word(point.class), unit, &range, &point.title];
    words.map(|word: &str| word.to_owned()).to_vec()
}

/// As payloads write it.
fn word(of: impl serde::Serialize) -> String {
    json!(of).as_str().unwrap_or_default().to_owned()
}
