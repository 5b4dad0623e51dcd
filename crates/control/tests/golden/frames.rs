//! What the first release says is understood, and what it understands is said: one file per kind of frame.
//!
//! A file is never changed. A release that adds something adds files; one that cannot read a file speaks another
//! version of the protocol.

use std::{fs, path::PathBuf};

use control::{
    FromRuntime, Heard, RevisionState, ToRuntime,
    wire::{Message, hear},
};
use serde_json::{Value, json};

fn golden(of: &str) -> Vec<(String, Value)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap())
    };
    files.into_iter().map(read).filter(|(name, _)| name.starts_with(of)).collect()
}

fn heard<T: Message>(frame: &Value) -> Heard<T> {
    hear(&serde_json::to_vec(frame).unwrap()).unwrap()
}

/// Every frame is read, and written again as it was: so the first release reads it too.
fn stays_as_it_was<T: Message + std::fmt::Debug>(of: &str) {
    let frames = golden(of);
    for (name, frame) in &frames {
        let Heard::Message(message) = heard::<T>(frame) else { panic!("{name} is not understood") };
        let written = serde_json::to_value(&message).unwrap();
        assert_eq!(written, *frame, "{name}");
    }
    for kind in T::KINDS {
        assert!(frames.iter().any(|(_, frame)| frame["type"] == *kind), "no file for {kind}");
    }
}

#[test]
fn frames_of_the_first_release_are_read_and_written_as_they_were() {
    stays_as_it_was::<ToRuntime>("to-runtime");
    stays_as_it_was::<FromRuntime>("from-runtime");
}

/// The frame with a field that this build does not know in each of its objects at `places`.
fn with_news(frame: &Value, places: &[&str]) -> Value {
    let mut frame = frame.clone();
    for place in places {
        if let Some(object) = frame.pointer_mut(place).and_then(Value::as_object_mut) {
            object.insert("somethingNew".to_owned(), json!({ "of": ["a", "newer", "release"] }));
        }
    }
    frame
}

#[test]
fn fields_that_a_newer_release_adds_are_passed_over() {
    let to = ["", "/value", "/value/revisions/0", "/value/revisions/0/limits", "/value/revisions/1/fetch/bindle"];
    for (name, frame) in golden("to-runtime") {
        assert_eq!(heard::<ToRuntime>(&with_news(&frame, &to)), heard::<ToRuntime>(&frame), "{name}");
    }
    let from = ["", "/value", "/value/inventory", "/value/inventory/reports/0", "/value/0", "/value/0/problem"];
    for (name, frame) in golden("from-runtime") {
        assert_eq!(heard::<FromRuntime>(&with_news(&frame, &from)), heard::<FromRuntime>(&frame), "{name}");
    }
}

#[test]
fn messages_of_a_kind_that_a_newer_release_adds_are_passed_over_and_what_is_no_message_is_not() {
    let news = json!({ "type": "prefetch", "value": { "digests": [] } });
    assert_eq!(heard::<ToRuntime>(&news), Heard::Unknown { kind: "prefetch".to_owned() });
    assert_eq!(heard::<FromRuntime>(&news), Heard::Unknown { kind: "prefetch".to_owned() });
    for nonsense in [&b"nonsense"[..], b"{}", b"[]", b"{\"type\":\"ping\",\"value\":\"x\"}", b"{\"type\":7}", b""] {
        assert!(hear::<ToRuntime>(nonsense).is_err(), "{}", String::from_utf8_lossy(nonsense));
    }
}

#[test]
fn an_assignment_that_says_what_cannot_be_honoured_costs_its_own_app_alone() {
    let (_, mut frame) = golden("to-runtime-assign").remove(0);
    frame["value"]["revisions"][0]["application"]["somethingNew"] = json!(true);
    let Heard::Unreadable(made_out) = heard::<ToRuntime>(&frame) else { panic!("it was passed over or believed") };
    assert_eq!(made_out.app.unwrap().to_string(), "shop/cart");
    assert!(made_out.why.contains("somethingNew"), "{}", made_out.why);
}

#[test]
fn a_state_that_only_a_newer_runtime_has_a_word_for_is_no_state_to_take_requests_in() {
    let (_, mut frame) = golden("from-runtime-report").remove(0);
    frame["value"][0]["revisions"] = json!({ "a-1": { "state": "warmingUp", "since": 7 } });
    let Heard::Message(FromRuntime::Report(reports)) = heard::<FromRuntime>(&frame) else { panic!("no report") };
    assert!(reports[0].revisions.values().all(|state| !state.is_ready()));
    assert_eq!(reports[0].revisions.values().collect::<Vec<_>>(), [&RevisionState::Preparing]);
}
