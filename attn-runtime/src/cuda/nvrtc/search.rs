//! Where NVRTC may lie: a list of candidates, best first.
//!
//! Building the list reads folders and `/proc/self/maps` and loads nothing. Order: what the user named, what this process
//! has already loaded (another framework's copy: two copies would only cost memory), a toolkit, Python's packages, and last
//! the system loader's own search.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A file or a name to try, or a place that holds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// A file that exists, or a name for the system's loader.
    Library(PathBuf),
    /// A place that was looked at without a hit.
    Nothing {
        /// The folder or list.
        place: String,
        /// Why there is nothing.
        outcome: String,
    },
}

/// Names that the loader's own search is asked for, newest first.
const SONAMES: [&str; 3] = if cfg!(windows) {
    ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_112_0.dll"]
} else {
    ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
};

/// What a search looks at; a value, so that tests need not change the process's environment.
pub(crate) struct Environment<'a> {
    /// Reads an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The root under which `usr` is looked up; `/` but in tests.
    pub(crate) root: &'a Path,
    /// The text of `/proc/self/maps`.
    pub(crate) maps: &'a str,
}

/// The library that the environment names, if any. An empty value counts as unset.
pub(crate) fn named(environment: &Environment<'_>) -> Option<PathBuf> {
    (environment.variable)("ATTN_NVRTC_PATH").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The candidates after the named one.
pub(crate) fn candidates(environment: &Environment<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mapped = mapped_libraries(environment.maps);
    if mapped.is_empty() {
        found.push(nothing("libraries loaded by this process", "no libnvrtc among them"));
    }
    found.extend(mapped.into_iter().map(Candidate::Library));
    for variable in ["CUDA_HOME", "CUDA_PATH"] {
        match (environment.variable)(variable).filter(|value| !value.is_empty()) {
            Some(home) => {
                for folder in ["lib64", "lib", "bin"] {
                    found.extend(in_folder(&Path::new(&home).join(folder)));
                }
            }
            None => found.push(nothing(&format!("${variable}"), "not set")),
        }
    }
    let toolkits = toolkit_folders(environment.root);
    if toolkits.is_empty() {
        let place = environment.root.join("usr/local/cuda*/lib64").display().to_string();
        found.push(nothing(&place, "no such folder"));
    }
    toolkits.iter().for_each(|folder| found.extend(in_folder(folder)));
    found.extend(python_packages(environment));
    found.extend(SONAMES.map(|name| Candidate::Library(PathBuf::from(name))));
    found
}

/// The NVRTC libraries of a folder: `.so.13` before `.so.12` before `.so`; never the `.alt` build or the builtins.
pub(crate) fn libraries_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if is_nvrtc_name(&name) {
            names.push(name);
        }
    }
    // A longer name is a more precise version of the same file; the major version alone decides the order.
    names.sort_by_key(|name| (std::cmp::Reverse(major_version(name)), name.len()));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// The files of `/proc/self/maps` that are NVRTC.
pub(crate) fn mapped_libraries(maps: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for line in maps.lines() {
        let Some(start) = line.find('/') else { continue };
        let path = Path::new(&line[start..]);
        if path.file_name().is_some_and(is_nvrtc_name) && !found.iter().any(|known| known == path) {
            found.push(path.to_path_buf());
        }
    }
    found
}

fn nothing(place: &str, outcome: &str) -> Candidate {
    Candidate::Nothing { place: place.to_owned(), outcome: outcome.to_owned() }
}

fn in_folder(folder: &Path) -> Vec<Candidate> {
    match libraries_in(folder) {
        Ok(paths) if paths.is_empty() => vec![nothing(&folder.display().to_string(), "holds no libnvrtc")],
        // One library a folder is enough: the rest are links to it, or older.
        Ok(paths) => paths.into_iter().take(1).map(Candidate::Library).collect(),
        Err(error) => vec![nothing(&folder.display().to_string(), &error.to_string())],
    }
}

fn is_nvrtc_name(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    if cfg!(windows) {
        return name.starts_with("nvrtc64_") && name.ends_with(".dll") && !name.contains("alt");
    }
    name.strip_prefix("libnvrtc.so").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn major_version(name: &OsStr) -> u32 {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let name = name.to_str().unwrap_or_default();
    match name.strip_prefix("libnvrtc.so.") {
        Some(rest) => digits(rest),
        None => name.strip_prefix("nvrtc64_").map_or(0, digits),
    }
}

/// `/usr/local/cuda` first, which the administrator chose, then versioned folders, newest first.
fn toolkit_folders(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root.join("usr/local")) else { return Vec::new() };
    let mut versions: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix("cuda")?;
            let version = match rest.strip_prefix('-') {
                Some(version) => version.split('.').map(|part| part.parse().unwrap_or(0)).collect(),
                None if rest.is_empty() => vec![u32::MAX],
                None => return None,
            };
            Some((version, entry.path().join("lib64")))
        })
        .collect();
    versions.sort_by(|left, right| right.0.cmp(&left.0));
    versions.into_iter().map(|(_, folder)| folder).filter(|folder| folder.is_dir()).collect()
}

/// The `nvidia` packages of Python: of the active environment, of the user, of the system.
fn python_packages(environment: &Environment<'_>) -> Vec<Candidate> {
    let mut libraries: Vec<PathBuf> = Vec::new();
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        libraries.extend((environment.variable)(variable).map(|prefix| Path::new(&prefix).join("lib")));
    }
    libraries.extend((environment.variable)("HOME").map(|home| Path::new(&home).join(".local/lib")));
    libraries.extend(["usr/local/lib", "usr/lib"].map(|folder| environment.root.join(folder)));
    let mut found = Vec::new();
    for library in &libraries {
        for packages in package_folders(library) {
            for package in ["cu13", "cuda_nvrtc", "cu12"] {
                for folder in ["lib", "bin"] {
                    let folder = packages.join("nvidia").join(package).join(folder);
                    if folder.is_dir() {
                        found.extend(in_folder(&folder));
                    }
                }
            }
        }
    }
    if found.is_empty() {
        let places: Vec<String> = libraries.iter().map(|library| library.display().to_string()).collect();
        let outcome =
            format!("no nvidia/{{cu13,cuda_nvrtc}}/lib under python3*/site-packages of {}", places.join(", "));
        found.push(nothing("Python packages", &outcome));
    }
    found
}

/// `python3.*/site-packages` and `dist-packages` under a library folder, newest Python first.
fn package_folders(library: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(library) else { return Vec::new() };
    let mut pythons: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let minor = name.strip_prefix("python3")?.trim_start_matches('.').parse().unwrap_or(0);
            Some((minor, entry.path()))
        })
        .collect();
    pythons.sort_by_key(|(minor, _)| std::cmp::Reverse(*minor));
    pythons.into_iter().flat_map(|(_, path)| ["site-packages", "dist-packages"].map(|name| path.join(name))).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    fn libraries(environment: &Environment<'_>) -> Vec<PathBuf> {
        candidates(environment)
            .into_iter()
            .filter_map(|candidate| match candidate {
                Candidate::Library(path) => Some(path),
                Candidate::Nothing { .. } => None,
            })
            .collect()
    }

    #[test]
    fn places_are_tried_in_the_documented_order() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for path in [
            "home/lib64/libnvrtc.so.12",
            "usr/local/cuda/lib64/libnvrtc.so.12.4.127",
            "usr/local/cuda/lib64/libnvrtc.so.12",
            "usr/local/cuda/lib64/libnvrtc.so",
            "usr/local/cuda-12.9/lib64/libnvrtc.so.12",
            "usr/local/cuda-13.0/lib64/libnvrtc.so.13",
            "usr/local/cuda-13.0/lib64/libnvrtc.alt.so.13",
            "usr/local/cuda-13.0/lib64/libnvrtc-builtins.so.13.0",
            "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
            "venv/lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
            "usr/lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        ] {
            touch(&at(path));
        }
        let variable = |name: &str| match name {
            "CUDA_HOME" => Some(at("home").into_os_string()),
            "VIRTUAL_ENV" => Some(at("venv").into_os_string()),
            _ => None,
        };
        let maps = "7f00-7f01 r-xp 00000000 08:01 42   /opt/torch/lib/libnvrtc.so.12\n\
                    7f01-7f02 r--p 00001000 08:01 42   /opt/torch/lib/libnvrtc.so.12\n\
                    7f02-7f03 r--p 00001000 08:01 43   /opt/torch/lib/libnvrtc-builtins.so.12.4\n\
                    7f03-7f04 rw-p 00000000 00:00 0    [heap]\n";
        let environment = Environment { variable: &variable, root: root.path(), maps };
        let expected = [
            PathBuf::from("/opt/torch/lib/libnvrtc.so.12"),
            at("home/lib64/libnvrtc.so.12"),
            at("usr/local/cuda/lib64/libnvrtc.so.12"),
            at("usr/local/cuda-13.0/lib64/libnvrtc.so.13"),
            at("usr/local/cuda-12.9/lib64/libnvrtc.so.12"),
            at("venv/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13"),
            at("venv/lib/python3.9/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
            at("usr/lib/python3/dist-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
            PathBuf::from("libnvrtc.so.13"),
            PathBuf::from("libnvrtc.so.12"),
            PathBuf::from("libnvrtc.so"),
        ];
        assert_eq!(libraries(&environment), expected);
    }

    #[test]
    fn an_empty_machine_leaves_the_loader_and_says_what_was_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let environment = Environment { variable: &|_| None, root: root.path(), maps: "" };
        assert_eq!(libraries(&environment).len(), SONAMES.len());
        let places: Vec<String> = candidates(&environment)
            .into_iter()
            .filter_map(|candidate| match candidate {
                Candidate::Nothing { place, .. } => Some(place),
                Candidate::Library(_) => None,
            })
            .collect();
        assert_eq!(places.len(), 5, "{places:?}");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let variable = |_: &str| Some(OsString::new());
        let environment = Environment { variable: &variable, root: Path::new("/nonexistent"), maps: "" };
        assert_eq!(named(&environment), None);
    }
}
