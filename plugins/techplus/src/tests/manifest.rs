//! `plugin.toml` and the code say the same.

use super::*;

#[test]
fn every_route_of_the_manifest_has_a_handler() {
    let house = House::open(&[]);
    let manifest = include_str!("../../plugin.toml");
    let value = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
    let methods = manifest.lines().filter_map(|line| value(line, "method = "));
    let paths = manifest
        .lines()
        .filter_map(|line| value(line, "path = \"/"));
    let mut count = 0;
    for (method, path) in methods.zip(paths) {
        let path = format!("/{}", path.replace(['{', '}'], ""));
        let response = house.app.request(&method, &path).send();
        let is_missing = response.status() == 405 || response.text().contains("route.not_found");
        assert!(!is_missing, "{method} {path}: {}", response.text());
        count += 1;
    }
    assert_eq!(count, manifest.matches("[[route]]").count());
}
