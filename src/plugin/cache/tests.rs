//! What is kept is what was compiled, whatever happens to the file.

use super::*;

#[test]
fn keys_are_written_and_read() {
    let key = Key::new(&[7; 32], 9);
    assert_eq!(Key::from_hex(&key.to_string()), Some(key));
    assert_ne!(Key::new(&[7; 32], 10), key);
    assert_ne!(Key::new(&[8; 32], 9), key);
    for text in ["", "00", &"zz".repeat(32), &"ü".repeat(32), &"0".repeat(65)] {
        assert_eq!(Key::from_hex(text), None, "{text}");
    }
}

#[test]
fn the_oldest_files_go() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::new(folder.path().to_owned());
    for number in 0..FILES_MAX + 3 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let work_file = cache.work_file(&Key(key)).expect("a name");
        write(&work_file, &Key(key), b"code").expect("a file");
        cache.keep(&Key(key), &work_file).expect("kept");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), FILES_MAX);
}
