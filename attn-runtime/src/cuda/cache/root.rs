//! Which folder kernels are kept in.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the environment says about the cache's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Keep kernels here.
    Folder(PathBuf),
    /// The user wants none.
    Off,
    /// There is no place for one.
    Unknown,
}

/// `ATTN_CACHE_DIR` (empty or `0`: off), else `attn` in the system's folder for caches.
pub(crate) fn resolve(variable: impl Fn(&str) -> Option<OsString>) -> Root {
    if let Some(folder) = variable("ATTN_CACHE_DIR") {
        let off = folder.is_empty() || folder == "0";
        return if off { Root::Off } else { Root::Folder(PathBuf::from(folder)) };
    }
    // A relative path is to be ignored, says the XDG specification.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let system = if cfg!(windows) { absolute("LOCALAPPDATA") } else { absolute("XDG_CACHE_HOME") };
    match system.or_else(|| absolute("HOME").map(|home| home.join(".cache"))) {
        Some(folder) => Root::Folder(folder.join("attn")),
        None => Root::Unknown,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Root {
        resolve(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value)))
    }

    #[test]
    fn precedence() {
        let folder = |path: &str| Root::Folder(PathBuf::from(path));
        let home = ("HOME", "/home/u");
        let xdg = ("XDG_CACHE_HOME", "/var/x");
        assert_eq!(with(&[("ATTN_CACHE_DIR", "/a"), xdg, home]), folder("/a"));
        assert_eq!(with(&[("ATTN_CACHE_DIR", ""), xdg, home]), Root::Off);
        assert_eq!(with(&[("ATTN_CACHE_DIR", "0"), xdg, home]), Root::Off);
        assert_eq!(with(&[xdg, home]), folder("/var/x/attn"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "relative"), home]), folder("/home/u/.cache/attn"));
        assert_eq!(with(&[home]), folder("/home/u/.cache/attn"));
        assert_eq!(with(&[]), Root::Unknown);
    }
}
