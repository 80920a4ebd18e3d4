//! The answer as a comment on a pull request.

use crate::report::{Report, Treatment};
use crate::text::{asked, headline, kinds, listed, notes, proxies, request, rule};
use proxy_core::xds::ConfigRef;

/// So many rules are named in one cell.
const RULES_MAX: usize = 3;

/// As Markdown, with tables as GitHub and GitLab show them.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("**meshsim diff: {}**\n", headline(report));
    if !report.changes.is_empty() {
        text += "\n| what changes | for example | was | now |\n|---|---|---|---|\n";
        for change in &report.changes {
            let mut example = format!(
                "{}<br>{} {}",
                code(&request(&change.witness)),
                asked(change),
                cell(&proxies(change))
            );
            if change.hosts.len() > 1 {
                example += &format!("<br>to {}", cell(&listed(&change.hosts)));
            }
            text += &format!(
                "| {} | {example} | {} | {} |\n",
                kinds(change),
                treatment(&change.old),
                treatment(&change.new)
            );
        }
    }
    if !report.undecided.is_empty() {
        text += "\nUndecided:\n\n";
        for one in &report.undecided {
            text += &format!(
                "- {}: {} ({}; {})\n",
                cell(&one.about),
                cell(&one.reason),
                rules(&one.old),
                rules(&one.new)
            );
        }
    }
    for (workloads, side) in [(&report.only_old, "old"), (&report.only_new, "new")] {
        if !workloads.is_empty() {
            text += &format!(
                "\nOnly in the {side} configuration: {}\n",
                cell(&listed(workloads))
            );
        }
    }
    for note in notes(report) {
        text += &format!("\n{note}\n");
    }
    text
}

fn treatment(treatment: &Treatment) -> String {
    format!(
        "{}<br>{}",
        cell(&treatment.summary),
        rules(&treatment.rules)
    )
}

fn rules(all: &[ConfigRef]) -> String {
    if all.is_empty() {
        return "no rule".to_owned();
    }
    let shown = all.iter().take(RULES_MAX).map(|one| code(&rule(one)));
    let shown = shown.collect::<Vec<_>>().join("<br>");
    match all.len().saturating_sub(RULES_MAX) {
        0 => shown,
        more => format!("{shown}<br>and {more} more"),
    }
}

/// Text that stays within its cell.
fn cell(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '<' => escaped += "&lt;",
            '\n' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

fn code(text: &str) -> String {
    let fence = if text.contains('`') { "``" } else { "`" };
    format!(
        "{fence}{}{fence}",
        text.replace('|', "\\|").replace('\n', " ")
    )
}
