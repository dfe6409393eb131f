//! `osp schema`: the forms of records, events and plans.

use super::{calibrate, compare, decode, encode, plan, reconstruct, sample};
use crate::cli::console::Console;
use crate::cli::events::Event;
use crate::cli::made::Made;
use osp::Result;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::json;

const EXAMPLES: &str = "\
The document has the schemas of records (OUTPUT.json and the results of --json) by command, of the events of --progress json, and \
of the metadata in videos, and of the results of osp plan --json and osp sample --dry-run --json.

Examples:
  osp schema > osp-schema.json";

/// Prints the JSON schemas of records, events and plans
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Runs the command.
pub fn run(console: &Console) -> Result<()> {
    let mut schemas = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let [video, grid] = sample::videos::schemas(&mut schemas);
    let records = json!({
        "sample": video,
        "sample_grid": grid,
        "decode": decode::schema(&mut schemas),
        "encode": encode::schema(&mut schemas),
        "reconstruct": reconstruct::schema(&mut schemas),
        "compare": compare::schema(&mut schemas),
        "calibrate": calibrate::schema(&mut schemas),
    });
    let (would, made) = (sample::dry_run::schema(&mut schemas), Made::json_schema(&mut schemas));
    let (event, plan) = (Event::json_schema(&mut schemas), plan::schema(&mut schemas));
    console.result(
        serde_json::to_string_pretty(&json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": concat!("osp ", env!("CARGO_PKG_VERSION")),
            "records": records,
            "metadata": made,
            "event": event,
            "dry_run": would,
            "plan": plan,
            "$defs": schemas.definitions(),
        }))
        .expect("schemas have a JSON form"),
    )
}
