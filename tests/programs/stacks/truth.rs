//! Rust: leaf below a closure, a method of a trait object and a generic function, with -O and without frame pointers.

use std::hint::black_box;

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn leaf() {
    for i in 0..250_000_000u64 {
        black_box(i);
    }
}

trait Work {
    fn work(&self) -> u64;
}

struct Worker(u64);

impl Work for Worker {
    #[inline(never)]
    fn work(&self) -> u64 {
        leaf();
        black_box(self.0)
    }
}

#[inline(never)]
fn generic<T: Fn() -> u64>(f: T) -> u64 {
    black_box(f()) + 1
}

#[inline(never)]
fn closure(worker: &dyn Work) -> u64 {
    generic(#[inline(never)] || black_box(worker.work()) + 1)
}

fn main() {
    let worker: Box<dyn Work> = Box::new(Worker(1));
    println!("{}", closure(black_box(&*worker)));
}
