//! The table of codes: each stable, with its exit status and its meaning.

use std::fmt;

macro_rules! codes {
    ($($name:ident $exit:literal $meaning:literal;)*) => {
        /// A stable code. `E` is an error, `W` a warning, `I` a notice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        /// Every code, in the order of its number.
        pub const CODES: &[Code] = &[$(Code::$name),*];

        impl Code {
            /// The code as it is printed, `E2103`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => stringify!($name)),* }
            }

            /// The exit status of a command that ends with this code.
            pub fn exit_status(self) -> u8 {
                match self { $(Code::$name => $exit),* }
            }

            /// What the code stands for, one line.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => $meaning),* }
            }
        }
    };
}

codes! {
    E1001 2 "the command line is not valid";
    E1002 2 "no model was named";
    E1003 2 "the output exists or is one of the inputs";
    E1004 7 "the output cannot be written";
    E1101 2 "an argument of a function is not valid";
    E2001 7 "a file of the model folder is missing or cannot be read";
    E2002 7 "the hub does not have this repository, revision or file";
    E2003 7 "the hub asks for a token or for the licence to be accepted";
    E2004 7 "the hub cannot be reached or broke the connection off";
    E2005 7 "a downloaded file does not have the announced checksum or size";
    E2006 7 "offline, and the file is not in the cache";
    E2007 7 "the cache folder cannot be written";
    E2008 2 "this is not a hub id, and no folder of this name exists";
    E2009 7 "the answer of the hub cannot be used";
    E2010 4 "safetensors: the header is longer than the file";
    E2011 4 "safetensors: the header is over the limit";
    E2012 4 "safetensors: the header is not a JSON object in UTF-8";
    E2013 4 "safetensors: a tensor name occurs twice";
    E2014 4 "safetensors: tensors overlap, leave a gap or do not cover the file";
    E2015 4 "safetensors: shape and dtype do not match the byte range";
    E2016 4 "a tensor or shard name is not acceptable";
    E2017 4 "a dtype is not supported";
    E2018 4 "the shard index does not match the shards";
    E2101 4 "tensors are missing";
    E2102 4 "tensors are not expected";
    E2103 4 "a tensor has another shape than the model needs";
    E2104 4 "a weight is not finite";
    E2105 4 "a tensor does not have the sealed checksum";
    E2106 4 "the file is not a weight file";
    E2107 7 "a weight file changed while it was in use";
    E2108 4 "not a packed model file, or one of another version";
    E2109 2 "a packed model file has one precision";
    W2120 0 "two weight files are present; one is used";
    W2121 0 "training keys are ignored";
    W2122 0 "two files of the model disagree; one is obeyed";
    W2123 0 "the cache of packed weights is not used or was made again";
    E2201 4 "a pickle names something outside the list of allowed names";
    E2202 4 "a pickle is over a limit";
    E2203 4 "a zip archive is damaged or not as PyTorch writes it";
    E2204 4 "a pickle is damaged or not a state dict";
    E2301 4 "config.json is not valid";
    E2302 4 "the model family is not supported";
    E2303 4 "preprocessor_config.json is not valid";
    E3001 4 "the tokenizer files are missing or of another kind";
    E3002 4 "a vocabulary entry is not valid";
    E3003 4 "the normaliser table of the tokenizer is damaged";
    E3004 4 "a component of the tokenizer is not supported";
    E3005 4 "the vocabulary is over the limit";
    E3006 4 "the tokenizer does not belong to the model";
    E3101 3 "the text is not valid UTF-8";
    E3104 3 "the text has more tokens than allowed";
    E3105 3 "the text is over the size limit";
    W3107 0 "a text was truncated";
    E4001 3 "the file is not a picture";
    E4002 3 "the picture format is not supported";
    E4003 3 "the picture is truncated";
    E4004 3 "the picture data is damaged";
    E4005 3 "this kind of JPEG is not supported";
    E4006 3 "the picture is over the pixel, memory or time limit";
    E4007 3 "a PNG chunk is damaged";
    E4008 3 "an animation frame is not valid";
    E4101 3 "pixel values are not valid";
    E4201 7 "the input is not a readable regular file";
    E4202 3 "the picture file is over the size limit";
    E5001 3 "a shard of the dataset is damaged";
    E5002 3 "a path of the dataset leaves its folder or is not a regular file";
    E5003 3 "a sample is incomplete or occurs twice";
    E5004 3 "a line, text or table of the dataset is not valid";
    E5005 7 "a file of the dataset cannot be read";
    E5006 3 "the dataset changed since it was opened";
    E5007 3 "too many bad samples";
    E5008 3 "the files that were named are no dataset";
    E5009 2 "an address is not a file";
    E5010 3 "a label, class name or prompt is not valid";
    E5011 3 "a sample is in a language that was not asked for";
    E5012 3 "nothing can be learned from these texts";
    W5013 0 "the dataset has a property that weakens training or the figures";
    E5020 3 "not an array file of numpy that can be used";
    E5021 3 "embeddings, index, languages or labels do not belong together";
    E5022 3 "an embedding is not finite or is zero";
    E6001 6 "a checkpoint cannot be saved, or the disk has no room for those of a run";
    W6002 0 "the newest checkpoint is damaged or gone; an older one is used";
    E6003 2 "the checkpoint belongs to another configuration or dataset";
    E6004 8 "a loss or gradient is not finite";
    W6005 0 "a spike of the loss or gradient was damped";
    E6006 70 "a data worker failed";
    E6008 2 "another run uses the folder";
    E6009 75 "training was interrupted; its state is saved";
    E6010 4 "a checkpoint is damaged or missing";
    E6011 4 "the log of a run does not belong to the checkpoint";
    W6012 0 "the log of the steps before the checkpoint is not there";
    E6013 2 "the training configuration is not valid";
    W6014 0 "a batch whose loss or gradients are not finite was passed over";
    I6016 0 "a run ended early, with the model of its best step";
    E7001 5 "the index holds less than was acknowledged";
    I7002 0 "a commit that was not acknowledged was taken over";
    E7003 5 "the index is damaged";
    E7004 5 "the index was made with another model or preprocessing";
    E7005 3 "the index holds no picture there";
    E7006 2 "a query or filter is not valid";
    E7007 6 "the disk has no room for the index";
    E7008 5 "another process works in the index";
    E7009 7 "the index cannot be written or read";
    E7011 5 "there is no index that this version reads";
    W7012 0 "the search structure was stale or damaged and is made again";
    W7013 0 "a folder of the index is not there or empty; its pictures are kept";
    E7014 3 "a dump of embeddings is not valid";
    E8001 3 "a request is not valid JSON";
    E8002 3 "a body is too long, too slow or not as long as announced";
    E8003 2 "there is no key, an unknown one, or one that is not good for the route";
    E8004 3 "a field of a request is missing or not valid";
    E8005 3 "a route, method or media type is not served";
    E8006 3 "a request is for another host, or does not name one";
    E8101 6 "the server is full";
    E8102 3 "items of a request were refused";
    E8103 6 "the server is stopping";
    E8104 6 "the time of a request is over";
    E8201 70 "the worker of the server failed over an item, or too often";
    E8202 6 "the engine of the server does not answer";
    E8203 2 "a reload was refused; what was there serves on";
    E8301 3 "the server fetches no addresses";
    E8401 2 "the port is in use";
    E8402 2 "the address cannot be listened on";
    E8403 2 "an address that other machines reach needs a key";
    E8404 6 "the server may need more memory than there is";
    E8405 4 "the model has no single vector for an input";
    E9001 70 "a bug of this program";
    E9002 6 "not enough memory";
    E9003 70 "a result is not finite";
    E9004 70 "an operation is not supported by the backend";
    E9005 6 "a resource of the machine is not available";
    E9101 2 "an object was closed, or belongs to another process";
}

impl Code {
    /// `error`, `warning` or `notice`.
    pub fn severity(self) -> &'static str {
        match self.as_str().as_bytes()[0] {
            b'W' => "warning",
            b'I' => "notice",
            _ => "error",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
