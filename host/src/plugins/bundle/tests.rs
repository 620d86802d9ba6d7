use std::{
    fs,
    io::{Cursor, Write as _},
};

use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

const MANIFEST_TEXT: &str = "schema = 1
[plugin]
name = \"shop\"
version = \"1.0.0\"
[component]
path = \"out/shop.wasm\"
[capabilities]
sql = [{ label = \"main\", migrations = \"sql/\" }]
";

/// A zip of these files, as any tool would write it.
fn zip(files: &[(&str, &[u8])]) -> Bytes {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner().into()
}

fn refusal(files: &[(&str, &[u8])]) -> String {
    let mut all: Vec<(&str, &[u8])> = vec![("plugin.toml", b"x"), ("plugin.wasm", b"\0asm")];
    all.extend(files);
    Bundle::read(&zip(&all), &Config::default())
        .unwrap_err()
        .to_string()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("out")).unwrap();
    fs::create_dir_all(folder.path().join("sql")).unwrap();
    fs::write(folder.path().join("plugin.toml"), MANIFEST_TEXT).unwrap();
    fs::write(folder.path().join("out/shop.wasm"), b"\0asm and so on").unwrap();
    fs::write(
        folder.path().join("sql/0010_index.sql"),
        "CREATE INDEX i ON t (a);",
    )
    .unwrap();
    fs::write(
        folder.path().join("sql/0002_create.sql"),
        "CREATE TABLE t (a);",
    )
    .unwrap();
    fs::write(folder.path().join("sql/.hidden"), "").unwrap();
    fs::write(folder.path().join("unrelated.txt"), "stays at home").unwrap();
    folder
}

#[test]
fn a_packed_folder_is_read_back_with_its_migrations_in_order() {
    let packed = pack(folder().path(), &Config::default()).unwrap();

    let bundle = Bundle::read(&packed, &Config::default()).unwrap();

    assert_eq!(bundle.manifest, MANIFEST_TEXT);
    assert_eq!(bundle.component, &b"\0asm and so on"[..]);
    let steps: Vec<_> = bundle
        .migrations
        .iter()
        .map(|m| (m.version, m.name.as_str()))
        .collect();
    assert_eq!(steps, [(2, "create"), (10, "index")]);
    assert_eq!(bundle.migrations[0].label.as_str(), "main");
    assert_eq!(bundle.migrations[0].sql, "CREATE TABLE t (a);");
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let config = Config::default();

    assert_eq!(
        pack(folder().path(), &config).unwrap(),
        pack(folder().path(), &config).unwrap()
    );
}

#[test]
fn packing_names_what_is_missing_or_misnamed() {
    let config = Config::default();
    let unbuilt = folder();
    fs::remove_file(unbuilt.path().join("out/shop.wasm")).unwrap();
    let misnamed = folder();
    fs::write(misnamed.path().join("sql/create.sql"), "").unwrap();
    let wrong = folder();
    fs::write(wrong.path().join("plugin.toml"), "").unwrap();

    let told = pack(unbuilt.path(), &config).unwrap_err().to_string();
    assert!(
        told.contains("shop.wasm; check the paths in plugin.toml"),
        "{told}"
    );
    let told = pack(misnamed.path(), &config).unwrap_err().to_string();
    assert!(told.contains("create.sql` is no migration"), "{told}");
    assert!(
        matches!(pack(wrong.path(), &config), Err(BundleError::Manifest(found)) if found.len() == 3)
    );
}

#[test]
fn files_that_do_not_belong_into_a_bundle_are_refused() {
    let cases: &[(&str, &str)] = &[
        ("../evil", "has `.`, `..` or an empty part in its path"),
        ("a/../../evil", "has `.`, `..` or an empty part in its path"),
        ("/etc/passwd", "has an absolute path"),
        (
            "a\\b",
            "has a character in its path that not all systems know",
        ),
        (
            "C:evil",
            "has a character in its path that not all systems know",
        ),
        (
            "é.sql",
            "has a character in its path that not all systems know",
        ),
        ("Plugin.TOML", "two files that some systems take for one"),
        ("README.md", "a bundle has no file `README.md`"),
        (
            "migrations/0001_a.sql",
            "a bundle has no file `migrations/0001_a.sql`",
        ),
        ("migrations/Main/0001_a.sql", "is no migration"),
        ("migrations/main/a.sql", "is no migration"),
        ("migrations/main/0000_a.sql", "is no migration"),
        ("migrations/main/-1_a.sql", "is no migration"),
        ("migrations/main/deep/0001_a.sql", "is no migration"),
    ];
    for (name, expected) in cases {
        let told = refusal(&[(name, b"x")]);
        assert!(told.contains(expected), "{name}: {told}");
    }
    let long = format!("migrations/main/0001_{}.sql", "a".repeat(300));
    assert!(refusal(&[(&long, b"x")]).contains("too long"));
    let twice: &[(&str, &[u8])] = &[
        ("migrations/main/0001_a.sql", b""),
        ("migrations/main/1_b.sql", b""),
    ];
    assert!(refusal(twice).contains("two migrations with the number 1"));
    assert!(refusal(&[("migrations/main/0001_a.sql", b"\xff")]).contains("is not UTF-8"));
}

#[test]
fn a_link_is_refused() {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive
        .add_symlink("plugin.wasm", "/etc/passwd", SimpleFileOptions::default())
        .unwrap();
    let bytes = archive.finish().unwrap().into_inner().into();

    let told = Bundle::read(&bytes, &Config::default())
        .unwrap_err()
        .to_string();

    assert!(told.contains("is a link or a device"), "{told}");
}

#[test]
fn a_bundle_without_its_parts_is_refused() {
    for (name, missing) in [
        ("plugin.toml", "plugin.wasm"),
        ("plugin.wasm", "plugin.toml"),
    ] {
        let told = Bundle::read(&zip(&[(name, b"x")]), &Config::default())
            .unwrap_err()
            .to_string();
        assert_eq!(told, format!("the bundle has no `{missing}`"));
    }
}

#[test]
fn a_bomb_is_refused_while_it_is_read() {
    let zeros = vec![0; 4 << 20];
    let bomb = zip(&[("plugin.toml", b"x"), ("plugin.wasm", &zeros)]);
    let lenient = Config {
        ratio_max: 1 << 20,
        unpacked_bytes_max: 1 << 20,
        ..Config::default()
    };

    let told = Bundle::read(&bomb, &Config::default()).unwrap_err();
    assert!(matches!(told, BundleError::RatioTooHigh { .. }), "{told}");
    let told = Bundle::read(&bomb, &lenient).unwrap_err();
    assert!(
        matches!(told, BundleError::UnpackedTooLarge { .. }),
        "{told}"
    );
}

#[test]
fn a_size_in_a_header_is_not_believed() {
    let zeros = vec![0; 4 << 20];
    let mut bomb = zip(&[("plugin.toml", b"x"), ("plugin.wasm", &zeros)]).to_vec();
    let size = u32::try_from(zeros.len()).unwrap().to_le_bytes();
    for at in 0..bomb.len() - 4 {
        if bomb[at..at + 4] == size {
            bomb[at..at + 4].copy_from_slice(&8u32.to_le_bytes());
        }
    }

    assert!(Bundle::read(&bomb.into(), &Config::default()).is_err());
}

#[test]
fn counts_and_sizes_are_bounded() {
    let bytes = zip(&[("plugin.toml", b"x"), ("plugin.wasm", b"y")]);
    let few = Config {
        entries_max: 1,
        ..Config::default()
    };
    let small = Config {
        bytes_max: 10,
        ..Config::default()
    };

    assert!(matches!(
        Bundle::read(&bytes, &few),
        Err(BundleError::TooManyEntries { entries: 2, max: 1 })
    ));
    assert!(matches!(
        Bundle::read(&bytes, &small),
        Err(BundleError::TooLarge { max: 10, .. })
    ));
    let name = "shop".parse().unwrap();
    let alone = Bundle::from_component(&name, "/", Auth::Public, bytes, &small);
    assert!(matches!(alone, Err(BundleError::TooLarge { .. })));
}

#[test]
fn an_upload_that_is_cut_off_anywhere_is_refused() {
    let whole = pack(folder().path(), &Config::default()).unwrap();

    for length in 0..whole.len() {
        assert!(
            Bundle::read(&whole.slice(..length), &Config::default()).is_err(),
            "{length}"
        );
    }
    let told = Bundle::read(&whole.slice(..whole.len() - 1), &Config::default()).unwrap_err();
    assert!(told.to_string().contains("its end is missing"), "{told}");
}

#[test]
fn something_before_the_archive_is_refused() {
    let mut bytes = b"MZ and a program".to_vec();
    bytes.extend_from_slice(&pack(folder().path(), &Config::default()).unwrap());

    assert!(Bundle::read(&bytes.into(), &Config::default()).is_err());
}

proptest! {
    #[test]
    fn no_byte_that_changes_makes_the_reader_panic(at in 0usize..4096, to in any::<u8>()) {
        let mut bytes = zip(&[("plugin.toml", b"x"), ("plugin.wasm", b"\0asm")]).to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = Bundle::read(&bytes.into(), &Config::default());
    }

    /// What is read is what was packed, however the files are called and whatever is in them; or all of it is refused.
    #[test]
    fn a_bundle_is_read_as_it_was_packed_or_refused(
        manifest in "\\PC{0,40}",
        component in prop::collection::vec(any::<u8>(), 0..200),
        steps in prop::collection::vec(("[0-9]{1,4}_[a-z]{0,4}|\\PC{1,8}|\\.\\.|[a-z/.]{1,9}", "\\PC{0,20}"), 0..4),
    ) {
        let named: Vec<(String, &String)> = steps
            .iter()
            .map(|(name, sql)| (format!("migrations/main/{name}.sql"), sql))
            .collect();
        let mut files: Vec<(&str, &[u8])> = vec![
            ("plugin.toml", manifest.as_bytes()),
            ("plugin.wasm", &component),
        ];
        let is_twice = |place: usize| named[..place].iter().any(|(name, _)| *name == named[place].0);
        for (place, (name, sql)) in named.iter().enumerate() {
            if !is_twice(place) {
                files.push((name, sql.as_bytes()));
            }
        }
        if let Ok(bundle) = Bundle::read(&zip(&files), &Config::default()) {
            prop_assert_eq!(&bundle.manifest, &manifest);
            prop_assert_eq!(&bundle.component[..], &component[..]);
            prop_assert_eq!(bundle.migrations.len(), files.len() - 2);
            prop_assert!(bundle.migrations.is_sorted_by_key(|step| step.version));
            for step in bundle.migrations {
                let is_this = |(name, sql): &(String, &String)| {
                    let (number, rest) = name["migrations/main/".len()..].split_once('_').unwrap();
                    number.parse() == Ok(step.version)
                        && rest == format!("{}.sql", step.name)
                        && **sql == step.sql
                };
                prop_assert!(named.iter().any(is_this), "{step:?}");
            }
        }
    }

    /// However many bytes of it are changed: it panics nowhere, and what is still read is no other file's.
    #[test]
    fn a_damaged_bundle_is_refused_or_has_its_files(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let manifest = "name = 1";
        let component = b"\0asm and so on";
        let whole = zip(&[("plugin.toml", manifest.as_bytes()), ("plugin.wasm", component)]);
        let mut bytes = whole.to_vec();
        for (at, to) in damage {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        // Each file has a checksum.
        if let Ok(bundle) = Bundle::read(&bytes.into(), &Config::default()) {
            prop_assert_eq!(bundle.manifest, manifest);
            prop_assert_eq!(&bundle.component[..], &component[..]);
        }
    }
}
