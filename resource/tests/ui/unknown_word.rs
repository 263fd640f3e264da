#[resource::message]
pub struct Part {
    #[field(1, omitempty)]
    pub weight: u64,
}

fn main() {}
