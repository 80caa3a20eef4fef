"""Object storage, such as S3: addresses, outputs that are uploaded, and datasets of tokens that are downloaded."""
