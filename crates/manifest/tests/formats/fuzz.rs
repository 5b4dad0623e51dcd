//! Whatever anybody may have written is thrown at everything that reads it.
//!
//! [`throw`] is the one entry: bytes in, no panic, an end in time. What it is fed with is either noise, or a good document
//! that was damaged, or one that is as large or as deep as it may be.

use std::{fs, path::Path};

use manifest::{
    Application,
    bindle_layout::{self, Invoice},
    hosts, spin_toml, template,
};
use proptest::{collection::vec, prelude::*, sample};

/// Reads `bytes` as everything that they could be.
fn throw(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(manifest) = spin_toml::parse(&text, "spin.toml") {
        let _unrouted = manifest.unrouted();
        let _profile = manifest.clone().with_profile("debug");
        let _selected = manifest.clone().select(&["hello"]);
        let _application = manifest.into_application(std::collections::BTreeMap::new());
    }
    if let Ok(invoice) = Invoice::from_toml(&text) {
        let _label = bindle_layout::manifest_parcel(&invoice);
        let _application = bindle_layout::application(&invoice, &text);
    }
    let _application = Application::from_json(bytes);
    let _template = template::parse(&text);
    let _filled = template::fill(&text, |_| Some("x"));
    let _host = text.parse::<hosts::OutboundHost>();
    let _hosts = hosts::from_allowed_http_hosts(&[text.into_owned()], true);
}

/// Every document of the golden files.
fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[derive(Debug, Clone)]
enum Damage {
    Replace(sample::Index, u8),
    Remove(sample::Index, u8),
    Double(sample::Index, u8),
    Insert(sample::Index, &'static str),
    Cut(sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<sample::Index>();
    let piece = sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        "[[",
        "\"",
        "'''",
        "=",
        "\n",
        ".",
        ",",
        "{{",
        "}}",
        "\0",
        "ü",
        "\u{202e}",
        "99999999999999999999",
        "[component.a]",
        "1e400",
        "true",
    ]);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, count)| Damage::Remove(at, count)),
        (at(), any::<u8>()).prop_map(|(at, count)| Damage::Double(at, count)),
        (at(), piece).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        at().prop_map(Damage::Cut),
    ]
}

fn apply(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let index = |at: &sample::Index| at.index(bytes.len() + 1);
        match damage {
            Damage::Replace(at, byte) => {
                let at = index(at);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Damage::Remove(at, count) => {
                let at = index(at);
                bytes.drain(at..(at + usize::from(*count)).min(bytes.len()));
            }
            Damage::Double(at, count) => {
                let at = index(at);
                let piece = bytes[at..(at + usize::from(*count)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Insert(at, piece) => {
                let at = index(at);
                bytes.splice(at..at, piece.bytes());
            }
            Damage::Cut(at) => bytes.truncate(index(at)),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_read_or_refused(bytes in vec(any::<u8>(), 0..512)) {
        throw(&bytes);
    }

    #[test]
    fn damaged_documents_are_read_or_refused(document in sample::select(corpus()), damages in vec(damage(), 1..8)) {
        throw(&apply(document, &damages));
    }
}

/// Each takes milliseconds. Work that grew with the square of a document's size would not end while somebody waits.
#[test]
fn documents_as_large_and_as_deep_as_can_be_are_read_or_refused() {
    const SIZE: usize = 120_000;
    const HEAD: &str =
        "spin_manifest_version = 2\n[application]\nname = \"x\"\n[[trigger.http]]\nroute = \"/\"\ncomponent = \"a\"\n";
    let component = format!("{HEAD}[component.a]\nsource = \"a.wasm\"\n");
    let fill = |head: &str, piece: &dyn Fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        let mut number = 0;
        while text.len() < SIZE {
            text.push_str(&piece(number));
            number += 1;
        }
        text + tail
    };
    let same = |piece: &'static str| move |_| piece.to_owned();
    let documents = [
        "[".repeat(SIZE),
        "{".repeat(SIZE),
        format!("a{}", ".a".repeat(SIZE / 2)),
        format!("a = {}", "[".repeat(SIZE)),
        format!("a = {}1{}", "{a=".repeat(SIZE / 4), "}".repeat(SIZE / 4)),
        "{{a}}".repeat(SIZE / 5),
        "{{".repeat(SIZE / 2),
        fill(&format!("{component}files = ["), &same("\"ü\","), "]\n"),
        fill(&format!("{component}files = ["), &same("1,"), "]\n"),
        fill(&format!("{component}key_value_stores = ["), &|n| format!("\"s{n}\","), "]\n"),
        fill(&format!("{component}[component.a.environment]\n"), &|n| format!("A{n} = {n}\n"), ""),
        fill(
            &format!("{component}[component.a.dependencies]\n"),
            &|n| format!("\"a:b/c{n}\" = {{ path = \"x\" }}\n"),
            "",
        ),
        fill(&format!("{component}[component.a.variables]\n"), &|n| format!("a{n} = \"{{{{ b{n} }}}}\"\n"), ""),
        fill(&format!("{component}[variables]\n"), &|n| format!("v{n} = {{ default = \"\" }}\n"), ""),
        fill(&component, &|n| format!("x{n} = 1\n"), ""),
        fill(HEAD, &|n| format!("[component.a{n}]\nsource = \"\"\n"), ""),
        fill(&component, &same("[[trigger.http]]\nroute = \"/\"\ncomponent = { source = \"x\" }\n"), ""),
        fill(
            &component,
            &same(
                "[[trigger.http]]\nid = \"x\"\nroute = \"/\"\ncomponent = \"a\"\ndependencies = { middleware = [{ path = \"x\" }] }\n",
            ),
            "",
        ),
        fill(&component, &same("[[trigger.http]]\nroute = \"/\"\ncomponent = \"nobody\"\n"), ""),
        fill(
            &format!("{component}[[trigger.http]]\nroute = \"/x\"\ncomponent = \"a\"\ncomponents = {{ a = ["),
            &same("{ source = \"x\" },"),
            "] }\n",
        ),
        fill(
            "bindleVersion = \"1.0.0\"\n[bindle]\nname = \"a\"\nversion = \"1.0.0\"\n",
            &same("[[parcel]]\n[parcel.label]\nsha256 = \"x\"\nname = \"n\"\nmediaType = \"m\"\nsize = 1\n"),
            "",
        ),
        "x".repeat(10 * SIZE),
    ];
    for document in documents {
        throw(document.as_bytes());
    }
}
