//! Input made to exhaust its reader: it is refused, or what is said about it stays small.

#![allow(clippy::unwrap_used)]

use source::{Diagnostic, Dialect, Fields, Node, SourceFile, parse, render};

fn read(text: &str, dialect: Dialect) -> (Vec<Node>, Vec<Diagnostic>) {
    parse(&SourceFile::new("t.yaml", text), dialect)
}

fn refusal(text: &str) -> String {
    let (documents, diagnostics) = read(text, Dialect::Kubernetes);
    assert!(documents.is_empty());
    let [diagnostic] = &diagnostics[..] else {
        unreachable!("one refusal, not {diagnostics:?}");
    };
    let shown = render(&diagnostics, false);
    assert!(shown.len() < 2_000, "{} bytes", shown.len());
    diagnostic.message.clone()
}

#[test]
fn long_texts_are_refused() {
    let long = "a".repeat(3 << 20);
    let lines = "  some words\n".repeat(300_000);
    for text in [
        format!("a: {long}\n"),
        format!("a: '{long}'\n"),
        format!("a: {}\n", "é".repeat(3 << 20)),
        format!("{long}: a\n"),
        format!("a: |\n{lines}"),
        format!("a: >\n{lines}"),
        format!("a: \"x\n{lines}  \"\n"),
        format!("a:\n{lines}"),
    ] {
        assert_eq!(refusal(&text), "a text too long to be configuration");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = "nested too deep to be configuration";
    assert_eq!(refusal(&"- ".repeat(1_000)), deep);
    assert_eq!(refusal(&"? ".repeat(1_000)), deep);
    assert_eq!(
        refusal(&format!("{}{}", "[".repeat(100), "]".repeat(100))),
        deep
    );
    assert_eq!(refusal(&"{a: ".repeat(100)), deep);
    let blocks: String = (0..100)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    assert_eq!(refusal(&blocks), deep);
    assert!(refusal(&"[".repeat(1_000_000)).starts_with("not YAML"));
}

#[test]
fn copies_of_long_texts_are_refused() {
    let text = "a".repeat(1 << 20);
    let copies = "*x,".repeat(100);
    assert_eq!(
        refusal(&format!("a: &x {text}\nb: [{copies}]\n")),
        "anchors and aliases make it too large to be configuration"
    );
}

#[test]
fn anchors_are_copies_too() {
    let nested: String = (0..50).map(|depth| format!("&a{depth} [")).collect();
    let wide = format!("{nested}{}{}", "1,".repeat(5_000), "]".repeat(50));
    let large = "anchors and aliases make it too large to be configuration";
    assert_eq!(refusal(&wide), large);
    let billion: String = (1..10)
        .map(|i| {
            format!(
                "a{i}: &a{i} {{{}}}\n",
                (0..9)
                    .map(|k| format!("k{k}: *a{}, ", i - 1))
                    .collect::<String>()
            )
        })
        .collect();
    assert_eq!(refusal(&format!("a0: &a0 lol\n{billion}")), large);
    // Merged keys do not multiply.
    let merged: String = (1..12)
        .map(|i| {
            let sources = format!("*a{}, ", i - 1).repeat(12);
            format!("a{i}: &a{i} {{<<: [{sources}]}}\n")
        })
        .collect();
    let keys: String = (0..100).map(|k| format!("k{k}: 1, ")).collect();
    let text = format!("a0: &a0 {{{keys}}}\n{merged}");
    let (documents, diagnostics) = read(&text, Dialect::Kubernetes);
    assert_eq!(diagnostics, []);
    let last = documents[0].at(&["a11"]).and_then(Node::as_map).unwrap();
    assert_eq!(last.entries.len(), 100);
}

#[test]
fn maps_may_have_many_keys() {
    let keys: String = (0..40_000).map(|k| format!("k{k}: {k}\n")).collect();
    let (documents, diagnostics) = read(&(keys + "k7: 1\nk39999: 2\n"), Dialect::Kubernetes);
    let said: Vec<&str> = diagnostics.iter().map(|d| &*d.message).collect();
    assert_eq!(
        said,
        ["`k7` stands here twice", "`k39999` stands here twice"]
    );
    let map = documents[0].as_map().unwrap();
    assert_eq!(map.entries.len(), 40_000);
    assert_eq!(map.entries[39_999].key, "k39999");
}

#[test]
fn many_mistakes_have_a_line_each() {
    let text: String = (0..5_000).map(|k| format!("k{k}: {k}\n")).collect();
    let (documents, mut diagnostics) = read(&text, Dialect::Kubernetes);
    Fields::of(&documents[0], "a thing", &mut diagnostics)
        .unwrap()
        .finish();
    diagnostics.push(Diagnostic::warning("one warning"));
    diagnostics[4_999].resource = Some("Thing default/x".to_owned());
    let shown = render(&diagnostics, false);
    assert_eq!(shown.matches(" --> t.yaml:").count(), 50);
    assert!(shown.contains("warning: one warning\n"));
    assert!(shown.contains(
        "\nerror: t.yaml:5000:1: unknown key `k4999`: not a key of a thing (Thing default/x)\n"
    ));
    assert!(shown.ends_with("\n\n5000 errors, 1 warning\n"));
    assert_eq!(shown.lines().count(), 50 * 8 + 2 + 4_950 + 2);
}

#[test]
fn of_a_long_line_what_is_near_is_shown() {
    let text = format!("{{{} wrong: é }}\n", "'ké': 1, ".repeat(100_000));
    let file = SourceFile::new("t.yaml", &text);
    let at = text.find("wrong").unwrap();
    let diagnostic = Diagnostic::error("it is wrong").at(&file.span(at..at + 5), "this");
    let shown = render(&[diagnostic], false);
    assert!(shown.contains(" --> t.yaml:1:900003\n"), "{shown}");
    assert!(shown.contains("wrong: é }"), "{shown}");
    assert!(shown.len() < 2_000, "{shown}");
}

fn merged(text: &str, dialect: Dialect) -> (Vec<(String, String)>, usize) {
    let (documents, diagnostics) = read(text, dialect);
    let entries = &documents[0].at(&["z"]).unwrap().as_map().unwrap().entries;
    let mut pairs: Vec<_> = entries
        .iter()
        .map(|e| (e.key.clone(), e.value.as_scalar().unwrap().to_owned()))
        .collect();
    pairs.sort();
    (pairs, diagnostics.len())
}

/// What sigs.k8s.io/yaml 1.4 and 1.6 make of them, and what YAML's description of `<<` says.
#[test]
fn merges() {
    let anchors = "x: &a {k: 1, l: 1}\nw: &b {k: 2, m: 2}\n";
    for (z, kubernetes, described) in [
        ("{<<: *a, k: 3}", "k3 l1", "k3 l1"),
        ("{k: 3, <<: *a}", "k1 l1", "k3 l1"),
        ("{<<: [*a, *b]}", "k1 l1 m2", "k1 l1 m2"),
        ("{<<: [*b, *a], k: 3}", "k3 l1 m2", "k3 l1 m2"),
        ("{<<: *a, <<: *b}", "k2 l1 m2", "k1 l1 m2"),
        ("{<<: {k: 4}, m: 3}", "k4 m3", "k4 m3"),
    ] {
        for (dialect, want) in [
            (Dialect::Kubernetes, kubernetes),
            (Dialect::Yaml12, described),
        ] {
            let (pairs, said) = merged(&format!("{anchors}z: {z}\n"), dialect);
            let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}{v}")).collect();
            assert_eq!(pairs.join(" "), want, "{z}");
            assert_eq!(
                said > 0,
                kubernetes == "k1 l1" && dialect == Dialect::Kubernetes
            );
        }
    }
    let (_, said) = read("z: {<<: 3}\n", Dialect::Kubernetes);
    assert_eq!(said[0].message, "`<<` merges a map or a list of maps");
    let (_, said) = read("x: &a {k: 1}\nz: {<<: *a, k: 2, k: 3}\n", Dialect::Yaml12);
    assert_eq!(said[0].message, "`k` stands here twice");
    let (documents, _) = read("z: {'<<': {k: 1}}\n", Dialect::Kubernetes);
    assert!(documents[0].at(&["z", "<<", "k"]).is_some());
}

#[test]
fn keys_that_are_no_texts() {
    let (documents, diagnostics) = read("on: 1\n0x10: 2\n1.50: 3\n8080: 4\n", Dialect::Kubernetes);
    let keys = |node: &Node| -> Vec<String> {
        let entries = &node.as_map().unwrap().entries;
        entries.iter().map(|entry| entry.key.clone()).collect()
    };
    assert_eq!(keys(&documents[0]), ["true", "16", "1.5", "8080"]);
    let said: Vec<&str> = diagnostics.iter().map(|d| &*d.message).collect();
    let reads = |key: &str, name: &str| format!("YAML 1.1 reads the key `{key}` as `{name}`");
    assert_eq!(
        said,
        [
            reads("on", "true"),
            reads("0x10", "16"),
            reads("1.50", "1.5")
        ]
    );
    let (documents, diagnostics) = read("on: 1\n0x10: 2\n1.50: 3\nTrue: 4\n", Dialect::Yaml12);
    assert_eq!(keys(&documents[0]), ["on", "0x10", "1.50", "True"]);
    assert_eq!(diagnostics, []);
    let (_, diagnostics) = read("~: 1\n", Dialect::Kubernetes);
    assert_eq!(diagnostics[0].message, "a key must be text");
}
