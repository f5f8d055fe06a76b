//! The kernel cache under damage, concurrency and missing folders, with a compiler that counts.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use attn_runtime::cuda::cache::{CacheStatistics, CompilerIdentity, Decision, Question};
use attn_runtime::cuda::testing::nvrtc_for_tests;
use attn_runtime::cuda::{Compilation, Compile, KernelCache, KernelRequest};

/// Gives back the source as the binary, or fails where the source says so.
#[derive(Default)]
struct Echo {
    calls: AtomicU64,
    delay: std::time::Duration,
}

impl Compile for Echo {
    type Error = String;

    fn identity(&self) -> CompilerIdentity {
        CompilerIdentity { name: "echo".into(), version: "1".into(), fingerprint: "a".into() }
    }

    fn compile_request(&self, request: &KernelRequest) -> Result<Compilation, String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        match request.source.as_str() {
            "fail" => Err("no".into()),
            "panic" => panic!("a compiler that panics"),
            source => Ok(Compilation { cubin: source.as_bytes().to_vec(), log: "log".into() }),
        }
    }
}

fn request(source: &str) -> KernelRequest {
    KernelRequest::new(source, "kernel.cu", "sm_80")
}

fn in_folder(folder: &Path) -> KernelCache<Arc<Echo>> {
    KernelCache::in_folder(Arc::default(), folder)
}

#[test]
fn memory_then_disk_then_compiler() {
    let folder = tempfile::tempdir().unwrap();
    let cache = in_folder(folder.path());
    let first = cache.get(&request("one")).unwrap();
    assert!(Arc::ptr_eq(&first, &cache.get(&request("one")).unwrap()));
    assert_eq!(cache.statistics(), CacheStatistics { memory_hits: 1, compilations: 1, ..CacheStatistics::default() });

    let second_process = in_folder(folder.path());
    assert_eq!(second_process.get(&request("one")).unwrap(), first);
    assert_eq!(second_process.statistics(), CacheStatistics { disk_hits: 1, ..CacheStatistics::default() });

    second_process.remove(&request("one"));
    assert!(!second_process.entry_path(&request("one")).unwrap().exists());
    assert_eq!(second_process.get(&request("one")).unwrap(), first);
    assert_eq!(second_process.statistics().compilations, 1);
}

#[test]
fn no_temporary_files_are_left_and_folders_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/attn");
    let cache = in_folder(&root);
    cache.get(&request("one")).unwrap();
    let path = cache.entry_path(&request("one")).unwrap();
    let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, [path]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn a_torn_or_damaged_entry_is_compiled_again_and_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let path = in_folder(folder.path()).entry_path(&request("payload")).unwrap();
    in_folder(folder.path()).get(&request("payload")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    // A bit of every seventh byte; the entry's own tests flip all of them.
    damaged.extend((0..whole.len()).step_by(7).map(|index| {
        let mut bytes = whole.clone();
        bytes[index] ^= 1 << (index % 8);
        bytes
    }));
    for bytes in damaged {
        std::fs::write(&path, &bytes).unwrap();
        let cache = in_folder(folder.path());
        assert_eq!(cache.get(&request("payload")).unwrap().cubin, b"payload");
        let expected = CacheStatistics { compilations: 1, corrupt: 1, ..CacheStatistics::default() };
        assert_eq!(cache.statistics(), expected, "{} bytes", bytes.len());
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn an_entry_renamed_over_another_is_not_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let cache = in_folder(folder.path());
    cache.get(&request("one")).unwrap();
    cache.get(&request("two")).unwrap();
    let [one, two] = ["one", "two"].map(|source| cache.entry_path(&request(source)).unwrap());
    std::fs::copy(one, two).unwrap();
    let later = in_folder(folder.path());
    assert_eq!(later.get(&request("two")).unwrap().cubin, b"two");
    assert_eq!(later.statistics().corrupt, 1);
}

#[test]
fn eight_threads_compile_once() {
    let folder = tempfile::tempdir().unwrap();
    let compiler = Arc::new(Echo { delay: std::time::Duration::from_millis(50), ..Echo::default() });
    let cache = KernelCache::in_folder(Arc::clone(&compiler), folder.path());
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    cache.get(&request("shared")).unwrap()
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(results.iter().all(|result| Arc::ptr_eq(result, &results[0])));
    });
    assert_eq!(compiler.calls.load(Ordering::SeqCst), 1);
    assert_eq!(cache.statistics().memory_hits, 7);
}

#[test]
fn different_requests_do_not_wait_for_each_other() {
    let compiler = Arc::new(Echo { delay: std::time::Duration::from_millis(200), ..Echo::default() });
    let cache = KernelCache::in_memory(compiler);
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let cache = &cache;
            scope.spawn(move || cache.get(&request(&index.to_string())).unwrap());
        }
    });
    assert!(started.elapsed() < std::time::Duration::from_millis(1200), "{:?}", started.elapsed());
}

#[test]
fn a_failure_is_shared_by_those_who_waited_and_not_kept() {
    let compiler = Arc::new(Echo { delay: std::time::Duration::from_millis(100), ..Echo::default() });
    let cache = KernelCache::in_memory(Arc::clone(&compiler));
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(cache.get(&request("fail")), Err("no".into()));
            });
        }
    });
    let calls = compiler.calls.load(Ordering::SeqCst);
    assert!(calls < 8, "{calls} compilations");
    cache.get(&request("fail")).unwrap_err();
    assert_eq!(compiler.calls.load(Ordering::SeqCst), calls + 1);
}

#[test]
fn a_compiler_that_panics_leaves_the_cache_usable() {
    let cache = KernelCache::in_memory(Echo::default());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get(&request("panic"))));
    assert!(panicked.is_err());
    assert_eq!(cache.get(&request("fine")).unwrap().cubin, b"fine");
}

#[test]
fn processes_racing_for_one_entry_leave_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = "x".repeat(100_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    // A cache of its own is what another process has.
                    let cache = in_folder(folder.path());
                    assert_eq!(cache.get(&request(&source)).unwrap().cubin, source.as_bytes());
                    assert_eq!(cache.statistics().corrupt, 0);
                    cache.remove(&request(&source));
                }
            });
        }
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_only_slower() {
    let folder = tempfile::tempdir().unwrap();
    // A file where a folder is needed fails for every user, root included.
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    let cache = in_folder(&blocked.join("cache"));
    assert_eq!(cache.get(&request("one")).unwrap().cubin, b"one");
    assert_eq!(cache.folder(), None);
    assert_eq!(cache.statistics().disk_failures, 1);

    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("v1"), b"").unwrap();
    let cache = in_folder(&root);
    assert_eq!(cache.get(&request("one")).unwrap().cubin, b"one");
    assert_eq!((cache.statistics().compilations, cache.statistics().disk_failures), (1, 1));
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_still_serves_hits() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    in_folder(&root).get(&request("stored")).unwrap();
    let set_mode = |mode: u32| {
        let shards = std::fs::read_dir(root.join("v1")).unwrap().map(|entry| entry.unwrap().path());
        for path in shards.chain([root.join("v1"), root.clone()]) {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o500);
    let cache = in_folder(&root);
    assert_eq!(cache.get(&request("stored")).unwrap().cubin, b"stored");
    assert_eq!(cache.statistics(), CacheStatistics { disk_hits: 1, ..CacheStatistics::default() });
    assert_eq!(cache.get(&request("new")).unwrap().cubin, b"new");
    set_mode(0o700);
}

#[test]
fn decisions_stand_beside_kernels_and_damage_loses_them_alone() {
    let folder = tempfile::tempdir().unwrap();
    let cache = in_folder(folder.path());
    let question = |device| Question::new(cache.identity(), &[device, "source"]);
    let decision = Decision { chosen: 1, milliseconds: vec![Some(2.0), Some(1.0), None] };
    assert_eq!(cache.decision(&question("gpu")), None);
    cache.keep_decision(&question("gpu"), &decision);
    let later = in_folder(folder.path());
    assert_eq!(later.decision(&question("gpu")), Some(decision.clone()));
    assert_eq!(later.decision(&question("another gpu")), None);

    let files =
        |folder: &Path| -> Vec<_> { std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let [digits] = &files(&folder.path().join("v1"))[..] else { panic!("one decision is in one folder") };
    let [path] = &files(digits)[..] else { panic!("one decision is one file") };
    let whole = std::fs::read(path).unwrap();
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x10;
        std::fs::write(path, damaged).unwrap();
        assert_eq!(later.decision(&question("gpu")), None, "byte {index}");
    }
    later.keep_decision(&question("gpu"), &decision);
    assert_eq!(std::fs::read(path).unwrap(), whole);

    let without_disk = KernelCache::in_memory(Arc::<Echo>::default());
    without_disk.keep_decision(&question("gpu"), &decision);
    assert_eq!(without_disk.decision(&question("gpu")), None);
}

#[test]
fn real_kernels_come_back_from_disk_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let nvrtc = nvrtc_for_tests();
    let request = KernelRequest::new(
        "extern \"C\" __global__ void fill(float* x) { x[threadIdx.x] = 1.0f; }",
        "fill.cu",
        "sm_90a",
    );
    let compiled = KernelCache::in_folder(Arc::clone(&nvrtc), folder.path()).get(&request).unwrap();
    let cache = KernelCache::in_folder(nvrtc, folder.path());
    let stored = cache.get(&request).unwrap();
    assert_eq!(stored, compiled);
    assert_eq!(stored.resources()[0].kernel, "fill");
    assert_eq!((cache.statistics().disk_hits, cache.statistics().compilations), (1, 0));
}
