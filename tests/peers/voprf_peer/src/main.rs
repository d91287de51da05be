//! The crate `voprf` as client and server of VOPRF(ristretto255, SHA-512).
//!
//! One request a line: a word, then values in hex. One answer a line: values in hex, or `error`.

use std::io::{self, BufRead, Write};

use rand::rngs::OsRng;
use voprf::{BlindedElement, EvaluationElement, Group, Proof, Ristretto255, VoprfClient, VoprfServer};

type Suite = Ristretto255;
type Values = Vec<Vec<u8>>;

#[derive(Default)]
struct State {
    server: Option<VoprfServer<Suite>>,
    inputs: Values,
    clients: Vec<VoprfClient<Suite>>,
}

impl State {
    /// With a secret key, or a fresh one: its public half.
    fn key(&mut self, values: &[Vec<u8>]) -> voprf::Result<Values> {
        let server = match values.first() {
            Some(secret) => VoprfServer::new_with_key(secret)?,
            None => VoprfServer::new(&mut OsRng)?,
        };
        let public = Ristretto255::serialize_elem(server.get_public_key()).to_vec();
        self.server = Some(server);
        Ok(vec![public])
    }

    /// Blinded elements for some inputs.
    fn blind(&mut self, inputs: &[Vec<u8>]) -> voprf::Result<Values> {
        self.inputs = inputs.to_vec();
        self.clients.clear();
        let mut elements = Vec::new();
        for input in inputs {
            let blinded = VoprfClient::<Suite>::blind(input, &mut OsRng)?;
            self.clients.push(blinded.state);
            elements.push(blinded.message.serialize().to_vec());
        }
        Ok(elements)
    }

    /// Evaluated elements for some blinded ones, and last the proof.
    fn evaluate(&self, elements: &[Vec<u8>]) -> voprf::Result<Values> {
        let blinded = elements
            .iter()
            .map(|element| BlindedElement::<Suite>::deserialize(element))
            .collect::<voprf::Result<Vec<_>>>()?;
        let server = self.server.as_ref().expect("a key was given");
        let result = server.batch_blind_evaluate(&mut OsRng, &blinded)?;
        let mut answer: Values = result.messages.iter().map(|m| m.serialize().to_vec()).collect();
        answer.push(result.proof.serialize().to_vec());
        Ok(answer)
    }

    /// The outputs for what was blinded last; given are the public key, the proof and the evaluated elements.
    fn finalize(&self, values: &[Vec<u8>]) -> voprf::Result<Values> {
        let public = Ristretto255::deserialize_elem(&values[0])?;
        let proof = Proof::<Suite>::deserialize(&values[1])?;
        let evaluated = values[2..]
            .iter()
            .map(|element| EvaluationElement::<Suite>::deserialize(element))
            .collect::<voprf::Result<Vec<_>>>()?;
        VoprfClient::batch_finalize(&self.inputs, &self.clients, &evaluated, &proof, public)?
            .map(|output| output.map(|bytes| bytes.to_vec()))
            .collect()
    }

    /// The server's own outputs.
    fn output(&self, inputs: &[Vec<u8>]) -> voprf::Result<Values> {
        let server = self.server.as_ref().expect("a key was given");
        inputs.iter().map(|input| Ok(server.evaluate(input)?.to_vec())).collect()
    }

    fn answer(&mut self, line: &str) -> voprf::Result<Values> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let values: Values = words.map(from_hex).collect();
        match verb {
            "key" => self.key(&values),
            "blind" => self.blind(&values),
            "evaluate" => self.evaluate(&values),
            "finalize" => self.finalize(&values),
            "output" => self.output(&values),
            _ => panic!("no such request"),
        }
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}

fn to_hex(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn main() -> io::Result<()> {
    let mut state = State::default();
    for line in io::stdin().lock().lines() {
        let text = match state.answer(&line?) {
            Ok(values) => values.iter().map(|value| to_hex(value)).collect::<Vec<_>>().join(" "),
            Err(_) => "error".to_owned(),
        };
        println!("{text}");
        io::stdout().flush()?;
    }
    Ok(())
}
