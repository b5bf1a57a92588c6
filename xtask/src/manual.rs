//! Man pages and completions, from the definitions of the options themselves, so that they cannot disagree with them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::Shell;

/// Writes `man/*.1` (one page for xprof, one for each sub-command) and `completions/*` below `directory`.
pub(crate) fn write(directory: &Path) -> Result<()> {
    let mut command = xprof::command_line();
    let man = fresh(directory, "man")?;
    clap_mangen::generate_to(command.clone(), &man).context("cannot write man pages")?;
    for page in fs::read_dir(&man).context("cannot list the man pages")? {
        let path = page.context("cannot list the man pages")?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, polished(&text)).with_context(|| format!("cannot write {}", path.display()))?;
    }

    let completions = fresh(directory, "completions")?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "xprof", &completions)
            .with_context(|| format!("cannot write completions for {shell}"))?;
    }
    Ok(())
}

/// A page with what the generator leaves odd put right: sections have names that readers know, and every page is xprof's.
fn polished(page: &str) -> String {
    let lines = page.lines().map(|line| match line {
        ".SH EXTRA" => ".SH NOTES".to_owned(),
        line if line.starts_with(".TH ") => match line.split_once('"') {
            Some((name, _)) => format!("{name}\"xprof {}\"", env!("CARGO_PKG_VERSION")),
            None => line.to_owned(),
        },
        // An option without a long name gets a space in its place.
        line => line.replace(r" \fR]", r"\fR]"),
    });
    lines.fold(String::new(), |page, line| page + &line + "\n")
}

/// An empty directory: pages of sub-commands that are no more must not stay.
fn fresh(directory: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = directory.join(name);
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
    }
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}
