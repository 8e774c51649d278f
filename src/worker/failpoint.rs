//! Points at which a test can abort the worker. Only debug builds have them.

/// Aborts the process where the environment variable `FAILPOINT` names this point and this user, as
/// `point=user`, or the point alone for every user.
#[cfg(debug_assertions)]
pub fn reach(point: &str, user: Option<&str>) {
    use std::sync::LazyLock;

    static SET: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FAILPOINT").ok());
    let Some(set) = &*SET else { return };
    let (at, of) = set
        .split_once('=')
        .map_or((set.as_str(), None), |(at, of)| (at, Some(of)));
    if at == point && of.is_none_or(|of| user == Some(of)) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_point: &str, _user: Option<&str>) {}
