#[resource::message]
pub struct Part {
    pub weight: u64,
}

fn main() {}
