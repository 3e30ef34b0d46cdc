window.YTD.tweets.part0 = [
 {
  "tweet": {
   "edit_info": {
    "initial": {
     "editTweetIds": [
      "1764621813150646273"
     ],
     "editableUntil": "2024-01-01T00:00:00.000Z",
     "editsRemaining": "5",
     "isEditEligible": true
    }
   },
   "retweeted": false,
   "source": "<a href=\"https://x.example\">Web</a>",
   "entities": {
    "hashtags": [],
    "symbols": [],
    "user_mentions": [],
    "urls": []
   },
   "display_text_range": [
    "0",
    "89"
   ],
   "favorite_count": "0",
   "id_str": "1764621813150646273",
   "truncated": false,
   "retweet_count": "0",
   "id": "1764621813150646273",
   "created_at": "Mon Mar 04 12:00:00 +0000 2024",
   "favorited": false,
   "full_text": "Dear all, this is the whole of a long story about a parcel that went r… https://t.co/long",
   "lang": "en"
  }
 },
 {
  "tweet": {
   "edit_info": {
    "initial": {
     "editTweetIds": [
      "1764206577054646273"
     ],
     "editableUntil": "2024-01-01T00:00:00.000Z",
     "editsRemaining": "5",
     "isEditEligible": true
    }
   },
   "retweeted": false,
   "source": "<a href=\"https://x.example\">Web</a>",
   "entities": {
    "hashtags": [],
    "symbols": [],
    "user_mentions": [],
    "urls": []
   },
   "display_text_range": [
    "0",
    "17"
   ],
   "favorite_count": "0",
   "id_str": "1764206577054646273",
   "truncated": false,
   "retweet_count": "0",
   "id": "1764206577054646273",
   "created_at": "Sun Mar 03 08:30:00 +0000 2024",
   "favorited": false,
   "full_text": "and on Monday too",
   "lang": "en",
   "in_reply_to_user_id": "5000",
   "in_reply_to_user_id_str": "5000",
   "in_reply_to_screen_name": "acme",
   "in_reply_to_status_id": "1764200285598646273",
   "in_reply_to_status_id_str": "1764200285598646273"
  }
 },
 {
  "tweet": {
   "edit_info": {
    "edit": {
     "initialTweetId": "1764199027307446273",
     "editControlInitial": {
      "editTweetIds": [
       "1764199027307446273",
       "1764200285598646273"
      ],
      "editableUntil": "2024-03-03T09:00:00.000Z",
      "editsRemaining": "4",
      "isEditEligible": true
     }
    }
   },
   "retweeted": false,
   "source": "<a href=\"https://x.example\">Web</a>",
   "entities": {
    "hashtags": [],
    "symbols": [],
    "user_mentions": [],
    "urls": []
   },
   "display_text_range": [
    "0",
    "14"
   ],
   "favorite_count": "4",
   "id_str": "1764200285598646273",
   "truncated": false,
   "retweet_count": "0",
   "id": "1764200285598646273",
   "created_at": "Sun Mar 03 08:05:00 +0000 2024",
   "favorited": false,
   "full_text": "Open on Sunday",
   "lang": "en"
  }
 },
 {
  "tweet": {
   "edit_info": {
    "initial": {
     "editTweetIds": [
      "1764199027307446273"
     ],
     "editableUntil": "2024-01-01T00:00:00.000Z",
     "editsRemaining": "5",
     "isEditEligible": true
    }
   },
   "retweeted": false,
   "source": "<a href=\"https://x.example\">Web</a>",
   "entities": {
    "hashtags": [],
    "symbols": [],
    "user_mentions": [],
    "urls": []
   },
   "display_text_range": [
    "0",
    "14"
   ],
   "favorite_count": "0",
   "id_str": "1764199027307446273",
   "truncated": false,
   "retweet_count": "0",
   "id": "1764199027307446273",
   "created_at": "Sun Mar 03 08:00:00 +0000 2024",
   "favorited": false,
   "full_text": "Open on Sonday",
   "lang": "en"
  }
 },
 {
  "tweet": {
   "edit_info": {
    "initial": {
     "editTweetIds": [
      "1763881937925046273"
     ],
     "editableUntil": "2024-01-01T00:00:00.000Z",
     "editsRemaining": "5",
     "isEditEligible": true
    }
   },
   "retweeted": false,
   "source": "<a href=\"https://x.example\">Web</a>",
   "entities": {
    "hashtags": [],
    "symbols": [],
    "user_mentions": [],
    "urls": [
     {
      "url": "https://t.co/a",
      "expanded_url": "https://acme.example/",
      "display_url": "acme.example",
      "indices": [
       "0",
       "9"
      ]
     },
     {
      "url": "https://t.co/a",
      "expanded_url": "https://x.com/kim/status/1763512000312246273?s=20",
      "display_url": "x.com/kim/st",
      "indices": [
       "0",
       "9"
      ]
     }
    ]
   },
   "display_text_range": [
    "0",
    "28"
   ],
   "favorite_count": "0",
   "id_str": "1763881937925046273",
   "truncated": false,
   "retweet_count": "0",
   "id": "1763881937925046273",
   "created_at": "Sat Mar 02 11:00:00 +0000 2024",
   "favorited": false,
   "full_text": "Proud of this https://t.co/a",
   "lang": "en"
  }
 },
 {
  "tweet": {
   "edit_info": {
    "initial": {
     "editTweetIds": [
      "1763868096721846273"
     ],
     "editableUntil": "2024-01-01T00:00:00.000Z",
     "editsRemaining": "5",
     "isEditEligible": true
    }
   },
   "retweeted": false,
   "source": "<a href=\"https://x.example\">Web</a>",
   "entities": {
    "hashtags": [],
    "symbols": [],
    "user_mentions": [],
    "urls": []
   },
   "display_text_range": [
    "0",
    "20"
   ],
   "favorite_count": "0",
   "id_str": "1763868096721846273",
   "truncated": false,
   "retweet_count": "0",
   "id": "1763868096721846273",
   "created_at": "Sat Mar 02 10:05:00 +0000 2024",
   "favorited": false,
   "full_text": "RT @stranger: hello…",
   "lang": "en"
  }
 }
]
