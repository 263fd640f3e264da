#[resource::message]
pub struct Part {
    #[field(1)]
    pub weight: u64,
    #[field(1)]
    pub height: u64,
}

fn main() {}
