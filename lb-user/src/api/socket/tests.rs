use std::os::unix::fs::PermissionsExt;

use super::*;

/// A directory of its own that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fairlead-socket-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("temporary directory");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/main.sock")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_new_socket_is_for_its_owner_only_and_goes_with_its_listener() {
    let scratch = Scratch::new("owner");
    let listener = Listener::bind(&scratch.socket()).expect("bound");
    let mode = fs::metadata(listener.path()).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(listener);
    assert!(!scratch.socket().exists());
}

#[test]
fn a_socket_left_behind_is_replaced_but_a_living_one_is_not() {
    let scratch = Scratch::new("stale");
    fs::create_dir_all(scratch.socket().parent().expect("has one")).expect("directory");
    drop(UnixListener::bind(scratch.socket()).expect("bound"));
    assert!(scratch.socket().exists(), "std leaves the file, as a killed daemon does");
    let first = Listener::bind(&scratch.socket()).expect("the stale one is replaced");
    let second = Listener::bind(&scratch.socket()).expect_err("somebody listens");
    assert!(matches!(second, BindError::InUse { .. }), "{second}");
    assert_eq!(ApiError::from(second).code.exit_code(), 5);
    drop(first);
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let scratch = Scratch::new("file");
    let path = scratch.0.join("precious");
    fs::write(&path, "data").expect("written");
    let error = Listener::bind(&path).expect_err("a file is in the way");
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("still there"), b"data");
}

#[test]
fn a_listener_leaves_the_socket_of_its_successor_alone() {
    let scratch = Scratch::new("successor");
    let first = Listener::bind(&scratch.socket()).expect("bound");
    fs::remove_file(scratch.socket()).expect("removed");
    let second = Listener::bind(&scratch.socket()).expect("bound");
    drop(first);
    assert!(scratch.socket().exists());
    drop(second);
}

#[test]
fn a_path_that_no_socket_can_have_is_refused_by_name() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
    assert!(matches!(Listener::bind(&path), Err(BindError::TooLong { .. })));
}
