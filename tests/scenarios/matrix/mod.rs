//! docs/degradation.md as a table: each cell is run with the shipped filter, for each failure by itself, and the page's tables are
//! written from what is run. So nothing is claimed there that isn't tried.
//!
//! `UPDATE_GOLDEN=1 cargo test -p e2e --test e2e -- scenarios::matrix` writes them; read the difference before keeping it.

mod operation;
mod row;
mod rows;
mod stage;

use std::fs;
use std::path::Path;

use rows::{PARTS, Part};
use stage::Stage;

fn each_cell_holds(name: &str) {
    let part = PARTS.iter().find(|part| part.name == name).expect("a part");
    for row in part.rows {
        for failing in (part.failures)() {
            row.run(Stage::set(failing, row.operation));
        }
    }
}

#[test]
fn each_cell_holds_where_the_bridge_gives_no_answer() {
    each_cell_holds("no-answer");
}

#[test]
fn each_cell_holds_where_redis_is_read_only() {
    each_cell_holds("read-only");
}

#[test]
fn each_cell_holds_where_redis_is_full() {
    each_cell_holds("full");
}

#[test]
fn each_cell_holds_where_shared_data_refuses() {
    each_cell_holds("shared-data");
}

#[test]
fn each_cell_holds_where_the_origin_errs() {
    each_cell_holds("origin-errs");
}

#[test]
fn each_cell_holds_where_the_origin_is_gone() {
    each_cell_holds("origin-gone");
}

#[test]
fn each_cell_holds_where_the_origin_takes_too_long() {
    each_cell_holds("origin-late");
}

const HEAD: &str = "\
| | L1 | clients get | added latency, at most | origin hears | logged | counted | heals |
|---|---|---|---|---|---|---|---|
";

fn table(part: &Part) -> String {
    let failures: Vec<String> = (part.failures)().into_iter().map(|failing| failing.words()).collect();
    let rows: String = part.rows.iter().map(|row| row.line() + "\n").collect();
    format!("Each row holds for: {}.\n\n{HEAD}{rows}", failures.join(", "))
}

#[test]
fn the_tables_of_the_page_are_the_cells_that_are_run() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/degradation.md");
    let kept = fs::read_to_string(&page).expect("the page");
    let mut written = kept.clone();
    for part in &PARTS {
        let (begin, end) = (format!("<!-- matrix: {} -->\n", part.name), "<!-- end -->");
        let (before, rest) = written.split_once(&begin).unwrap_or_else(|| panic!("the page has no {begin}"));
        let (_, after) = rest.split_once(end).expect("an end");
        written = format!("{before}{begin}{}{end}{after}", table(part));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, &written).expect("the page can be written");
    } else {
        assert!(kept == written, "docs/degradation.md isn't what is run; see scenarios/matrix/mod.rs");
    }
}
