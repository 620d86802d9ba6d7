//! One export for each thing that Extism gives its modules, answers that can be compared between hosts, and nothing that
//! depends on an address or on time.
#![cfg(target_family = "wasm")]

use std::collections::BTreeMap;

use extism_pdk::*;

#[plugin_fn]
pub fn echo(input: Vec<u8>) -> FnResult<Vec<u8>> {
    Ok(input)
}

/// So many bytes.
#[plugin_fn]
pub fn large(count: String) -> FnResult<Vec<u8>> {
    let count: usize = count.parse()?;
    Ok((0..count).map(|at| (at % 251) as u8).collect())
}

/// The setting of this name.
#[plugin_fn]
pub fn setting(key: String) -> FnResult<String> {
    Ok(config::get(key)?.unwrap_or_else(|| "(none)".to_owned()))
}

/// What variables hold while they are set, replaced and removed.
#[plugin_fn]
pub fn variables(input: Vec<u8>) -> FnResult<Json<Vec<Option<String>>>> {
    let read = || -> Result<Option<String>, Error> {
        Ok(var::get::<Vec<u8>>("a")?.map(|value| String::from_utf8_lossy(&value).into_owned()))
    };
    let mut seen = vec![read()?];
    var::set("a", input)?;
    seen.push(read()?);
    var::set("a", "replaced")?;
    var::set("b", "other")?;
    seen.push(read()?);
    var::remove("a")?;
    seen.push(read()?);
    seen.push(var::get::<String>("b")?);
    Ok(Json(seen))
}

/// How often this was called as far as the variables know.
#[plugin_fn]
pub fn count_calls(_: ()) -> FnResult<String> {
    let calls = var::get::<String>("calls")?.unwrap_or_default();
    let calls: u32 = calls.parse().unwrap_or_default();
    var::set("calls", (calls + 1).to_string())?;
    Ok((calls + 1).to_string())
}

/// Fails with this text and the code -1.
#[plugin_fn]
pub fn fail(message: String) -> FnResult<String> {
    Err(Error::msg(message).into())
}

/// Fails with the code and the text of `422 no such thing`.
#[plugin_fn]
pub fn refuse(input: String) -> FnResult<String> {
    let (code, message) = input.split_once(' ').unwrap_or(("1", &input));
    Err(WithReturnCode::new(
        Error::msg(message.to_owned()),
        code.parse()?,
    ))
}

/// Returns this code and says nothing.
#[no_mangle]
pub extern "C" fn code() -> i32 {
    let code = input::<String>().unwrap_or_default();
    code.parse().unwrap_or(77)
}

/// Returns nothing at all.
#[no_mangle]
pub extern "C" fn silent() {}

#[plugin_fn]
pub fn panics(message: String) -> FnResult<String> {
    panic!("{message}")
}

/// Sets an error, takes it back, and answers.
#[plugin_fn]
pub fn mends(_: ()) -> FnResult<String> {
    let memory = Memory::from_bytes("broken")?;
    unsafe {
        extism::error_set(memory.offset());
        extism::error_set(0);
    }
    Ok("mended".to_owned())
}

#[plugin_fn]
pub fn logs(message: String) -> FnResult<()> {
    trace!("trace {message}");
    debug!("debug {message}");
    info!("info {message}");
    warn!("warn {message}");
    error!("error {message}");
    Ok(())
}

/// What is told of blocks, of what was freed and of what never was a block.
#[plugin_fn]
pub fn blocks(_: ()) -> FnResult<Json<BTreeMap<&'static str, u64>>> {
    let mut told = BTreeMap::new();
    unsafe {
        told.insert("alloc 0", extism::alloc(0));
        let block = extism::alloc(20);
        told.insert("length", extism::length(block));
        told.insert("length unsafe", extism::length_unsafe(block));
        told.insert("length inside", extism::length(block + 1));
        extism::store_u64(block, 0x0102_0304_0506_0708);
        extism::store_u8(block + 8, 9);
        told.insert("u64", extism::load_u64(block));
        told.insert("u64 across", extism::load_u64(block + 1));
        told.insert("u8", u64::from(extism::load_u8(block + 7)));
        extism::free(block);
        told.insert("length after free", extism::length(block));
        told.insert("length unsafe after free", extism::length_unsafe(block));
        told.insert("length of null", extism::length(0));
        told.insert("length of nowhere", extism::length(1 << 40));
        told.insert("length unsafe of nowhere", extism::length_unsafe(1 << 40));
        told.insert("load of nowhere", extism::load_u64(1 << 40));
        told.insert("load at the end", u64::from(extism::load_u8(u64::MAX)));
        extism::store_u64(1 << 40, 1);
        extism::store_u8(u64::MAX, 1);
        extism::free(1 << 40);
        extism::free(0);
        told.insert("input past its end", u64::from(extism::input_load_u8(1000)));
        told.insert("input far away", extism::input_load_u64(1 << 40));
        told.insert("input length", extism::input_length());
    }
    Ok(Json(told))
}

/// Uses far more memory over time than at once.
#[plugin_fn]
pub fn churn(rounds: String) -> FnResult<String> {
    let rounds: u32 = rounds.parse()?;
    let data = vec![7u8; 100_000];
    for round in 0..rounds {
        let memory = Memory::from_bytes(&data)?;
        if memory.to_vec() != data {
            return Err(Error::msg(format!("round {round}")).into());
        }
        memory.free();
    }
    Ok("done".to_owned())
}

/// Names a part of a block as the output, tries others that do not exist, and frees the block.
#[no_mangle]
pub extern "C" fn part_of_a_block() -> i32 {
    let Ok(memory) = Memory::from_bytes("hello world") else {
        return 1;
    };
    unsafe {
        extism::output_set(memory.offset() + 6, 5);
        extism::output_set(1 << 40, 3);
        extism::output_set(0, 3);
        extism::free(memory.offset());
    }
    0
}

/// Passes something that is no handle where one is needed.
#[plugin_fn]
pub fn wrong_handle(_: ()) -> FnResult<String> {
    let found = unsafe { extism::config_get(1 << 40) };
    Ok(found.to_string())
}

/// What the standard library finds of the system.
#[plugin_fn]
pub fn system(_: ()) -> FnResult<Json<BTreeMap<&'static str, bool>>> {
    println!("to standard output");
    eprintln!("to standard error");
    let mut found = BTreeMap::new();
    let now = std::time::SystemTime::now();
    let is_now = now > std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    found.insert("time", is_now);
    let mut map = std::collections::HashMap::new();
    map.insert(1, 2);
    found.insert("random", map[&1] == 2);
    found.insert("arguments", std::env::args().next().is_some());
    found.insert("environment", std::env::vars().next().is_some());
    found.insert("files", std::fs::read_dir("/").is_ok());
    found.insert("a file", std::fs::File::open("/etc/passwd").is_ok());
    found.insert("new files", std::fs::write("x", "y").is_ok());
    std::thread::sleep(std::time::Duration::from_millis(2));
    Ok(Json(found))
}

#[plugin_fn]
pub fn exits(code: String) -> FnResult<String> {
    std::process::exit(code.parse()?)
}

/// Asks another server, and tells the status, a header and the body.
#[plugin_fn]
pub fn fetch(url: String) -> FnResult<String> {
    let (method, url) = url.split_once(' ').unwrap_or(("GET", &url));
    let request = HttpRequest::new(url)
        .with_method(method)
        .with_header("x-from", "extism");
    let body = (method != "GET").then_some("posted");
    let answer = http::request::<&str>(&request, body)?;
    let kind = answer.header("content-type").unwrap_or("(none)").to_owned();
    let body = String::from_utf8_lossy(&answer.body()).into_owned();
    Ok(format!("{} {kind} {body}", answer.status_code()))
}

/// Answers with the request record that it was given.
#[plugin_fn]
pub fn handle(record: String) -> FnResult<Json<BTreeMap<&'static str, String>>> {
    Ok(Json(BTreeMap::from([("body", record)])))
}
