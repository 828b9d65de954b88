use duroxide::prelude::*;

#[event]
struct Approval {
    by: std::marker::PhantomData<*const ()>,
}

fn main() {}
