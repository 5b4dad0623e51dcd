//! Golden files: what a reader makes of `<name>.in.toml` stands beside it, in `<name>.<kind>`.
//!
//! `BLESS=1 cargo test -p manifest --test formats` writes what the code does now; read the difference before you
//! commit it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of them.
pub(crate) struct GoldenFiles {
    folder: &'static str,
}

impl GoldenFiles {
    /// Those in `tests/<folder>`.
    pub(crate) const fn new(folder: &'static str) -> Self {
        Self { folder }
    }

    fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(self.folder)
    }

    pub(crate) fn input(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(format!("{name}.in.toml"))).unwrap()
    }

    /// Fails when `actual` is not what the file says.
    pub(crate) fn compare(&self, name: &str, kind: &str, actual: &str) {
        let path = self.dir().join(format!("{name}.{kind}"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, format!("{actual}\n")).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}\n{actual}"));
        assert_eq!(expected.trim_end(), actual, "{path:?}");
    }

    /// Fails when there is a file that belongs to none of the tests `known`.
    pub(crate) fn check_complete(&self, known: &[&str]) {
        for entry in fs::read_dir(self.dir()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let stem = name.split('.').next().unwrap();
            assert!(known.contains(&stem), "{name} belongs to no test");
        }
    }
}

/// One test for each file of `$files`, which calls `check` with its name.
macro_rules! golden {
    ($files:expr; $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_golden_file_has_its_test() {
            $files.check_complete(&[$(stringify!($name)),*]);
        }
    };
}
pub(crate) use golden;
