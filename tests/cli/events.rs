//! `--progress json`, and the schemas of everything that is printed as JSON.

use super::{model_argument, osp, succeeds, write};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// The document of `osp schema`.
struct Schemas(Value);

impl Schemas {
    fn of_program() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self(serde_json::from_str(&succeeds(folder.path(), &["schema"])).unwrap())
    }

    /// Checks `value` against the schema at `pointer`, and that the schema names every one of its fields.
    #[track_caller]
    fn check(&self, pointer: &str, value: &Value) {
        let schema = self.0.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        if let Err(problem) = self.fits(schema, value) {
            panic!("{pointer}: {problem} in {value}");
        }
    }

    /// The keywords that our schemas have.
    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        const KNOWN: [&str; 16] = [
            "$ref",
            "type",
            "properties",
            "required",
            "items",
            "prefixItems",
            "anyOf",
            "oneOf",
            "const",
            "minItems",
            "maxItems",
            "minimum",
            "maximum",
            "format",
            "title",
            "description",
        ];
        let schema = schema.as_object().ok_or("not a schema")?;
        if let Some(unknown) = schema.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("the test does not know the keyword {unknown}"));
        }
        if let Some(Value::String(place)) = schema.get("$ref") {
            let target = self.0.pointer(place.trim_start_matches('#')).ok_or(format!("no {place}"))?;
            return self.fits(target, value);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = schema.get(choice) {
                let failures: Vec<String> = choices.iter().filter_map(|one| self.fits(one, value).err()).collect();
                if failures.len() == choices.len() {
                    return Err(format!("no choice fits: {failures:?}"));
                }
            }
        }
        if schema.get("const").is_some_and(|expected| expected != value) {
            return Err(format!("{value} is not {}", schema["const"]));
        }
        self.type_fits(schema, value)?;
        if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
            values.iter().try_for_each(|value| self.fits(items, value))?;
        }
        match value {
            Value::Object(fields) if schema.contains_key("properties") => self.fields_fit(schema, fields),
            _ => Ok(()),
        }
    }

    fn type_fits(&self, schema: &Map<String, Value>, value: &Value) -> Result<(), String> {
        let is = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("no type {other}"),
        };
        let fits = match schema.get("type") {
            None => true,
            Some(Value::String(name)) => is(name),
            Some(Value::Array(names)) => names.iter().any(|name| is(name.as_str().unwrap())),
            Some(other) => panic!("{other} is no type"),
        };
        if fits { Ok(()) } else { Err(format!("{value} is no {}", schema["type"])) }
    }

    fn fields_fit(&self, schema: &Map<String, Value>, fields: &Map<String, Value>) -> Result<(), String> {
        let properties = schema["properties"].as_object().unwrap();
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return Err(format!("{name} is missing"));
            }
        }
        for (name, value) in fields {
            let property = properties.get(name).ok_or(format!("the schema has no {name}"))?;
            self.fits(property, value).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }
}

fn parsed(text: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(text).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Runs the program with `--progress json`, checks that stderr holds events and nothing else, and returns them and stdout.
fn events(schemas: &Schemas, folder: &Path, args: &[&str], code: i32) -> (Vec<Value>, Vec<u8>) {
    let output = osp(folder).args(args).args(["--progress", "json"]).assert().code(code).get_output().clone();
    let events = parsed(&output.stderr);
    events.iter().for_each(|event| schemas.check("/event", event));
    (events, output.stdout)
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[test]
fn a_run_is_events_and_records_as_the_schemas_say() {
    let (schemas, folder, model) = (Schemas::of_program(), tempfile::tempdir().unwrap(), model_argument());
    let json = |args: &[&str], code: i32| {
        let (events, stdout) = events(&schemas, folder.path(), &[args, &["--json"]].concat(), code);
        (events, parsed(&stdout))
    };
    let sample = ["sample", "a cat", "a dog", "--steps", "7", "--frames", "5", "--model", &model, "--sampler", "DDIM"];
    let (said, records) = json(&[&sample[..], &["-o", "a.gif", "--save-latent", "l.safetensors"]].concat(), 0);
    assert_eq!(records.len(), 3);
    records[..2].iter().for_each(|record| schemas.check("/records/sample", record));
    schemas.check("/records/sample_grid", &records[2]);
    // Every stage begins, goes on to its last unit, and ends.
    for (stage, unit, of) in [("text", "block", None), ("denoise", "step", Some(7)), ("decode", "tile", None)] {
        let of_stage: Vec<&Value> = said.iter().filter(|event| event["stage"] == stage).collect();
        assert_eq!((&of_stage[0]["event"], &of_stage[0]["unit"]), (&"begin".into(), &unit.into()), "{stage}");
        let last = of_stage.iter().rev().find(|event| event["event"] == "progress").unwrap();
        assert_eq!(last["step"], last["of"], "{stage}");
        assert!(of.is_none_or(|of| last["of"] == of), "{last}");
        assert!(last["rate"].as_f64().unwrap() > 0.0 && last["seconds_left"] == 0.0, "{last}");
        assert_eq!(of_stage.last().unwrap()["event"], "end", "{stage}");
    }
    // Both latents come first, because CPUs keep one model open.
    let videos: Vec<&str> = named(&said, "video").iter().map(|video| video["output"].as_str().unwrap()).collect();
    assert_eq!(videos, ["a-000.gif", "a-001.gif", "a-000.gif", "a-001.gif"]);
    let summary = named(&said, "summary");
    assert_eq!((summary.len(), summary[0]["stages"][1]["steps"].as_u64()), (1, Some(14)));

    let (said, records) =
        json(&["decode", "l-000.safetensors", "-o", "b.gif", "--model", &model, "--device", "emulated"], 0);
    schemas.check("/records/decode", &records[0]);
    assert!(
        named(&said, "plan").iter().chain(&named(&said, "progress")).all(|event| event["bytes"].as_u64() > Some(0))
    );
    write(&folder.path().join("clip.gif"), 5, 32, 32);
    let (_, records) = json(&["encode", "clip.gif", "-o", "c.safetensors", "--model", &model], 0);
    schemas.check("/records/encode", &records[0]);
    let (_, records) = json(&["reconstruct", "clip.gif", "-o", "d.gif", "--model", &model], 0);
    schemas.check("/records/reconstruct", &records[0]);
    // Equal frames have an infinite PSNR.
    for other in ["clip.gif", "d.gif"] {
        let (_, records) = json(&["compare", "clip.gif", other], 0);
        schemas.check("/records/compare", &records[0]);
    }
    let (_, records) = json(&["plan", "--preset", "v1.1.0", "--frames", "1", "--size", "256x256", "--gpu", "h100"], 0);
    schemas.check("/plan", &records[0]);
    let (_, records) = json(&[&sample[..], &["-o", "a.gif", "--dry-run"]].concat(), 0);
    assert_eq!(records.len(), 2);
    records.iter().for_each(|record| schemas.check("/dry_run", record));
}

#[test]
fn errors_are_events_with_the_exit_code() {
    let (schemas, folder, model) = (Schemas::of_program(), tempfile::tempdir().unwrap(), model_argument());
    for (args, code) in [
        (&["sample", "a cat", "--steps", "0"][..], 2),
        (&["sample", "a cat", "--stepps", "3"], 2),
        (&["sampel"], 2),
        (&["sample", "a cat", "--model", "absent"], 5),
        (&["sample", "a cat", "--quiet", "--device", "toaster"], 3),
    ] {
        let (said, _) = events(&schemas, folder.path(), args, code);
        let last = said.last().unwrap();
        assert_eq!((&last["event"], &last["exit_code"]), (&"error".into(), &code.into()), "{args:?}");
        assert_eq!(named(&said, "error").len(), 1, "{args:?}");
    }
    fs::write(folder.path().join("list.txt"), "a cat\n你好").unwrap();
    let args = ["sample", "--prompts", "list.txt", "--model", &model, "--frames", "1", "-o", "x.png"];
    let (said, _) = events(&schemas, folder.path(), &args, 1);
    let errors = named(&said, "error");
    assert_eq!(errors.len(), 2);
    assert!(errors[0]["text"].as_str().unwrap().starts_with("list.txt, line 2") && errors[0]["exit_code"].is_null());
    assert_eq!(errors[1]["exit_code"], 1);
}

#[test]
#[cfg(unix)]
fn a_signal_is_an_event() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let (schemas, folder) = (Schemas::of_program(), tempfile::tempdir().unwrap());
    let mut command = Command::new(osp(folder.path()).get_program());
    command.args([
        "sample",
        "a cat",
        "--model",
        &model_argument(),
        "--steps",
        "200",
        "--sampler",
        "DDIM",
        "-o",
        "a.gif",
    ]);
    command
        .args(["--progress=json"])
        .current_dir(folder.path())
        .env("XDG_CACHE_HOME", folder.path().join(super::CACHE));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"begin\",\"stage\":\"denoise\"")));
    Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    let rest: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    rest.iter().for_each(|event| schemas.check("/event", event));
    assert!(named(&rest, "note").iter().any(|note| note["text"].as_str().unwrap().starts_with("stopping after")));
    assert_eq!((&rest.last().unwrap()["event"], &rest.last().unwrap()["exit_code"]), (&"error".into(), &130.into()));
}
