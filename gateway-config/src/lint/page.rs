//! docs/linting.md.

use std::fmt::Write as _;

use super::LINTS;

const HEAD: &str = "\
# Warnings

`routecache check` tells mistakes, which the filter would refuse as well, and warnings: rules that work, and are probably not what was
meant. This page is made from the checks themselves, and each example is run by a test.

- Mistakes exit with 1. Warnings alone exit with 0, unless `--deny warnings`, or `--deny NAME` for one of them, makes them mistakes.
- A comment allows what is meant as it stands: `# routecache: allow(tag-never-purged)`, with several names separated by commas. It is about
  its own line, or about the next one if it stands alone; on the first line of a rule, or of any field, about all that is below. One
  that allows nothing is told (`unused-allow`).
- For files without comments, and for a whole project: `--allow NAME`.
- `--format json` and `--format sarif` (2.1.0) print the same for programs; what is allowed is marked there rather than left out.

```yaml
routes:
  # routecache: allow(tag-never-purged)   purged by the importer
  - { name: catalog, match: { path: /catalog }, cache: { tags: [catalog] } }
```

What would rather be a warning elsewhere is a mistake here: a key that misses a capture of its path, two rules with one name, a field that
isn't known.
";

/// The page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for lint in LINTS {
        let _ = write!(page, "\n## {}\n\n{}\n\n{}\n", lint.name, lint.about, lint.why);
        let (example, mended) = (lint.example.trim(), lint.mended.trim());
        let _ = write!(page, "\n```yaml\n{example}\n```\n\nMended:\n\n```yaml\n{mended}\n```\n");
    }
    page
}
