@0xff96596e67991681;

# trade:v1 with fields appended; a reader of either reads the other.
# Suffix E9: an exact integer, 1_000_000_000 of it to the dollar or contract.
# receivedAt is 0 in a message that was written as trade:v1: then nothing below it is filled.

enum Side {
  buy @0;
  sell @1;
}

struct Trade {
  timestamp @0 :UInt64;        # Unix nanoseconds of the venue
  ticker @1 :Text;
  price @2 :Float64;           # dollars of the YES side
  size @3 :UInt32;             # contracts, rounded
  side @4 :Side;               # of the taker
  tradeId @5 :Text;
  receivedAt @6 :UInt64;       # Unix nanoseconds of receipt at the socket
  priceE9 @7 :Int64;
  sizeE9 @8 :UInt64;
  sequence @9 :UInt64;         # of the venue's channel
  hasSequence @10 :Bool;       # false: the venue sent none
}

struct Ticker {
  timestamp @0 :UInt64;        # Unix nanoseconds of the venue
  ticker @1 :Text;
  bidPrice @2 :Float64;        # dollars of the YES side; 0.0 is a missing quote, or zero
  askPrice @3 :Float64;
  lastPrice @4 :Float64;
  volume @5 :UInt64;           # contracts, rounded
  openInterest @6 :UInt64;
  receivedAt @7 :UInt64;       # Unix nanoseconds of receipt at the socket
  bidPriceE9 @8 :Int64;
  askPriceE9 @9 :Int64;
  lastPriceE9 @10 :Int64;
  bidSizeE9 @11 :UInt64;
  askSizeE9 @12 :UInt64;
  volumeE9 @13 :UInt64;
  openInterestE9 @14 :UInt64;
  sequence @15 :UInt64;        # of the venue's channel
  hasBidPrice @16 :Bool;       # false: the venue gave no such quote
  hasAskPrice @17 :Bool;
  hasLastPrice @18 :Bool;
  hasBidSize @19 :Bool;
  hasAskSize @20 :Bool;
  hasSequence @21 :Bool;       # false: the venue sent none
}
